package forward

import (
	"net"
	"net/netip"
	"testing"

	"github.com/kelp-engine/kelp/test/nstest"
	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

func TestQuotaLeavesSomethingForOthers(t *testing.T) {
	q := newQuota[string](100)
	grab := func(who string) (n int) {
		for q.take(who) {
			n++
		}
		return n
	}
	if n := grab("greedy"); n != 50 {
		t.Errorf("the first to grab got %d of 100", n)
	}
	if n := grab("second"); n != 25 {
		t.Errorf("the second got %d", n)
	}
	if !q.take("modest") {
		t.Error("nothing was left for one who wants one")
	}
	q.give("modest")
	for range 50 {
		q.give("greedy")
	}
	if n := grab("second"); n != 25 { // up to 50 in all
		t.Errorf("the second got %d more when the first was gone", n)
	}
	for range 50 {
		q.give("second")
	}
	if len(q.held) != 0 || q.used != 0 {
		t.Errorf("left over: %+v", q)
	}
}

// A container that sends to every port keeps no other from its flows.
func TestFloodOfDatagramsLeavesOthersTheirFlows(t *testing.T) {
	e := loose(t)
	neighbour := netip.MustParseAddr("172.17.0.3")
	send := func(from netip.Addr, port uint16) {
		pkt, payload := ipPacket(from, netip.MustParseAddr(nstest.HostIPv4), header.UDPProtocolNumber, header.UDPMinimumSize)
		header.UDP(payload).Encode(&header.UDPFields{SrcPort: 4000, DstPort: port, Length: header.UDPMinimumSize})
		e.wire.deliver(e.wire.dispatcher, e.frame(header.IPv4ProtocolNumber, pkt))
	}
	of := func(who netip.Addr) (n int) {
		e.udp.mu.Lock()
		defer e.udp.mu.Unlock()
		for id := range e.udp.flows {
			if id.container.Addr() == who {
				n++
			}
		}
		return n
	}
	send(neighbour, 1)
	for port := range uint16(maxUDPFlows + 1000) {
		send(container4, 1+port)
	}
	send(neighbour, 2)
	if n := of(neighbour); n != 2 {
		t.Errorf("the neighbour has %d flows of 2", n)
	}
	if n := of(container4); n > maxUDPFlows/2 || n < maxUDPFlows/4 {
		t.Errorf("the flooder has %d flows", n)
	}
}

// A container that pings under every identifier keeps no other from pinging.
func TestFloodOfPingsLeavesOthersTheirs(t *testing.T) {
	e := loose(t)
	neighbour := netip.MustParseAddr("172.17.0.3")
	send := func(from netip.Addr, ident uint16) {
		pkt, payload := ipPacket(from, netip.MustParseAddr(nstest.HostIPv4), header.ICMPv4ProtocolNumber, header.ICMPv4MinimumSize)
		h := header.ICMPv4(payload)
		h.SetType(header.ICMPv4Echo)
		h.SetIdent(ident)
		h.SetChecksum(^checksum.Checksum(payload, 0))
		e.wire.deliver(e.wire.dispatcher, e.frame(header.IPv4ProtocolNumber, pkt))
	}
	for ident := range uint16(maxPingFlows + 100) {
		send(container4, ident)
	}
	send(neighbour, 1)
	e.ping.mu.Lock()
	defer e.ping.mu.Unlock()
	if n := e.ping.share.held[container4]; n != maxPingFlows/2 {
		t.Errorf("the flooder has %d pings", n)
	}
	if n := e.ping.share.held[neighbour]; n != 1 {
		t.Errorf("the neighbour has %d pings of 1", n)
	}
}

// A client of a published UDP port that sends from every port of its own does
// not use up the open files of all.
func TestFloodOfClientsLeavesOpenFiles(t *testing.T) {
	n := newNetwork(t, EgressConfig{})
	_, _, udp4 := serveNames(t, n)
	at := netip.AddrPortFrom(netip.MustParseAddr(nstest.HostIPv4), publish(t, "udp", "0.0.0.0:0", n.target(udp4)).Port())
	limitFiles(t, 400)
	for range 3 {
		for range 100 { // as many as a socket of ordinary buffers holds
			c, err := net.Dial("udp4", at.String())
			check(t, err)
			_, err = c.Write([]byte("x"))
			check(t, err)
			c.Close()
		}
		ask(t, "udp4", "127.0.0.1", netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), at.Port())) // another client is answered
	}
	descriptors.mu.Lock()
	defer descriptors.mu.Unlock()
	if n := descriptors.held[at.Addr()]; n < 100 || n > 150 {
		t.Errorf("the flooder has %d open files of 300", n)
	}
}

// limitFiles bounds the open files of the process until the test has ended.
func limitFiles(t *testing.T, most uint64) {
	t.Helper()
	var before unix.Rlimit
	check(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &before))
	check(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: most, Max: before.Max}))
	t.Cleanup(func() { check(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &before)) })
}

// A container that begins connections and completes none keeps no other from
// making its own.
func TestFloodOfSYNsLeavesOthersTheirConnections(t *testing.T) {
	e := loose(t)
	l, err := net.Listen("tcp4", nstest.HostIPv4+":0")
	check(t, err)
	defer l.Close()
	send := func(from netip.Addr, port uint16) {
		pkt, payload := ipPacket(from, netip.MustParseAddr(nstest.HostIPv4), header.TCPProtocolNumber, header.TCPMinimumSize)
		header.TCP(payload).Encode(&header.TCPFields{
			SrcPort: port, DstPort: uint16(l.Addr().(*net.TCPAddr).Port), SeqNum: 1,
			DataOffset: header.TCPMinimumSize, Flags: header.TCPFlagSyn, WindowSize: 65535,
		})
		e.wire.deliver(e.wire.dispatcher, e.frame(header.IPv4ProtocolNumber, pkt))
	}
	for port := range uint16(maxDials + 1000) {
		send(container4, 1000+port)
	}
	send(netip.MustParseAddr("172.17.0.3"), 1000)
	e.tcp.mu.Lock()
	defer e.tcp.mu.Unlock()
	if n := e.tcp.pending.held[container4]; n > maxDials/2 {
		t.Errorf("the flooder has %d connections under way", n)
	}
	if e.tcp.pending.used == e.tcp.pending.limit {
		t.Error("nothing is left for others")
	}
}
