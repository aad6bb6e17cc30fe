package forward

import (
	"net"
	"net/netip"
	"testing"

	"github.com/kelp-engine/kelp/test/nstest"
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
