package forward

import (
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"testing"

	"github.com/kelp-engine/kelp/netstack/link"
	"github.com/kelp-engine/kelp/test/nstest"
	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// loose is an egress at the end of no wire: what it sends is dropped.
func loose(t testing.TB) *Egress {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	check(t, err)
	near, far := os.NewFile(uintptr(fds[0]), "near"), os.NewFile(uintptr(fds[1]), "far")
	u := &link.Uplink{Socket: near, StackMAC: link.RandomMAC(), KernelMAC: link.RandomMAC(), MTU: 1500}
	e, err := NewEgress(EgressConfig{Bridge: &link.Bridge{}, Uplink: u, IPv6: true, ReachesHost: func(netip.Addr) bool { return true }})
	check(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 70000)
		for {
			if _, err := far.Read(buf); err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() {
		e.Close()
		if descriptors.used != 0 || len(descriptors.held) != 0 {
			t.Errorf("open files are still counted: %v", descriptors.held)
		}
		near.Close()
		far.Close()
		<-done
	})
	return e
}

// ethernet is a frame's first part: the addresses and the kind of what follows.
func (e *Egress) frame(kind tcpip.NetworkProtocolNumber, packet []byte) []byte {
	b := make([]byte, vnetSize+header.EthernetMinimumSize)
	header.Ethernet(b[vnetSize:]).Encode(&header.EthernetFields{
		SrcAddr: tcpip.LinkAddress(e.cfg.Uplink.KernelMAC), DstAddr: e.wire.mac, Type: kind,
	})
	return append(b, packet...)
}

// Packets of every kind that a container sends, as seeds.
func seeds() map[string][]byte {
	host4, host6 := netip.MustParseAddr(nstest.HostIPv4), netip.MustParseAddr(nstest.HostIPv6)
	syn := func(src, dst netip.Addr) []byte {
		pkt, payload := ipPacket(src, dst, header.TCPProtocolNumber, header.TCPMinimumSize)
		header.TCP(payload).Encode(&header.TCPFields{SrcPort: 4000, DstPort: 4007, SeqNum: 1, DataOffset: header.TCPMinimumSize, Flags: header.TCPFlagSyn, WindowSize: 65535})
		return pkt
	}
	datagram := func(src, dst netip.Addr) []byte {
		pkt, payload := ipPacket(src, dst, header.UDPProtocolNumber, header.UDPMinimumSize+4)
		header.UDP(payload).Encode(&header.UDPFields{SrcPort: 4000, DstPort: 4007, Length: header.UDPMinimumSize + 4})
		return pkt
	}
	ping4, payload := ipPacket(container4, host4, header.ICMPv4ProtocolNumber, header.ICMPv4MinimumSize+8)
	header.ICMPv4(payload).SetType(header.ICMPv4Echo)
	header.ICMPv4(payload).SetChecksum(^checksum.Checksum(payload, 0))
	ping6, payload := ipPacket(container6, host6, header.ICMPv6ProtocolNumber, header.ICMPv6EchoMinimumSize+8)
	header.ICMPv6(payload).SetType(header.ICMPv6EchoRequest)
	setICMPv6Checksum(payload, container6, host6)
	fragment := datagram(container4, host4)
	header.IPv4(fragment).SetFlagsFragmentOffset(header.IPv4FlagMoreFragments, 0)
	options := append([]byte{0x46, 0, 0, 32, 0, 0, 0, 0, 64, unix.IPPROTO_UDP, 0, 0}, datagram(container4, host4)[12:20]...)
	options = append(options, 0x94, 4, 0, 0, 16, 0, 0x0f, 0xa7, 0, 8, 0, 0)
	extended, payload := ipPacket(container6, host6, 0, 8+header.UDPMinimumSize)
	copy(payload, []byte{unix.IPPROTO_UDP, 0, 1, 4, 0, 0, 0, 0}) // hop by hop
	pieces, payload := ipPacket(container6, host6, 44, 8+8)
	copy(payload, []byte{unix.IPPROTO_UDP, 0, 0, 1, 0, 0, 0, 9})
	solicit, payload := ipPacket(netip.MustParseAddr("fe80::1"), netip.MustParseAddr("ff02::1:ff00:1"), header.ICMPv6ProtocolNumber, 24)
	header.ICMPv6(payload).SetType(header.ICMPv6NeighborSolicit)
	return map[string][]byte{
		"SYN": syn(container4, host4), "SYN of IPv6": syn(container6, host6),
		"datagram": datagram(container4, host4), "datagram of IPv6": datagram(container6, host6),
		"echo": ping4, "echo of IPv6": ping6,
		"fragment": fragment, "options": options, "extension": extended, "fragment of IPv6": pieces,
		"solicitation": solicit,
		"to loopback":  datagram(container4, netip.MustParseAddr("127.0.0.1")),
		"nothing":      {},
		"half":         syn(container4, host4)[:25],
		"bare header":  {0x45},
	}
}

// FuzzFrame sends whatever a container may send out of its network.
func FuzzFrame(f *testing.F) {
	for _, kind := range []tcpip.NetworkProtocolNumber{header.IPv4ProtocolNumber, header.IPv6ProtocolNumber, header.ARPProtocolNumber, 0x8100} {
		for _, pkt := range seeds() {
			f.Add(uint16(kind), pkt)
		}
	}
	// For the handshakes that succeed. One of the fuzzing processes has it.
	if l, err := net.Listen("tcp4", nstest.HostIPv4+":4007"); err == nil {
		defer l.Close()
	}
	e := loose(f)
	f.Fuzz(func(t *testing.T, kind uint16, pkt []byte) {
		b := e.frame(tcpip.NetworkProtocolNumber(kind), pkt)
		e.wire.deliver(e.wire.dispatcher, b[:min(len(b), vnetSize+maxFrame)])
		e.udp.mu.Lock()
		defer e.udp.mu.Unlock()
		if n := len(e.udp.flows); n > maxUDPFlows {
			t.Errorf("%d UDP flows", n)
		}
	})
}

// FuzzRawFrame is FuzzFrame with a hostile Ethernet header and length.
func FuzzRawFrame(f *testing.F) {
	e := loose(f)
	f.Add([]byte{})
	f.Add(make([]byte, vnetSize+header.EthernetMinimumSize-1))
	f.Add(e.frame(header.IPv4ProtocolNumber, seeds()["SYN"]))
	f.Fuzz(func(_ *testing.T, b []byte) { e.wire.deliver(e.wire.dispatcher, b[:min(len(b), vnetSize+maxFrame)]) })
}

// FuzzResend makes SYNs fit to go back to the container's network.
func FuzzResend(f *testing.F) {
	for _, pkt := range seeds() {
		f.Add(pkt)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		syn, ok := parsed(b)
		if !ok {
			return
		}
		out := withChecksum(syn)
		if len(out) != len(b) {
			t.Errorf("%d bytes became %d", len(b), len(out))
		}
		id := flowID{container: netip.AddrPortFrom(addrOf(out, 0), 1), remote: netip.AddrPortFrom(addrOf(out, 1), 2)}
		for _, why := range []refusal{portUnreachable, netUnreachable, hostUnreachable, prohibited} {
			if answer := unreachableFor(id, why, out); len(answer) > 1280 {
				t.Errorf("an ICMP error has %d bytes", len(answer))
			}
		}
		resetFor(id, binary.BigEndian.Uint32(out))
	})
}

// parsed is a packet as the stack hands SYNs on: with whole headers.
func parsed(b []byte) (packet, bool) {
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(b)})
	defer pkt.DecRef()
	head := 0
	switch header.IPVersion(b) {
	case header.IPv4Version:
		if !header.IPv4(b).IsValid(len(b)) {
			return packet{}, false
		}
		head = int(header.IPv4(b).HeaderLength())
	case header.IPv6Version:
		if !header.IPv6(b).IsValid(len(b)) {
			return packet{}, false
		}
		head = header.IPv6MinimumSize
	default:
		return packet{}, false
	}
	if len(b) < head+header.TCPMinimumSize {
		return packet{}, false
	}
	return packet{bytes: append([]byte(nil), b...), head: head}, true
}

// addrOf is the source (0) or destination (1) of a packet.
func addrOf(b []byte, which int) netip.Addr {
	at, size := 12, 4
	if header.IPVersion(b) == header.IPv6Version {
		at, size = 8, 16
	}
	a, _ := netip.AddrFromSlice(b[at+which*size:][:size])
	return a
}
