package forward

import (
	"net/netip"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// refusal is what a container is told instead of a connection.
type refusal int

const (
	portUnreachable refusal = iota // nothing listens there
	netUnreachable                 // no route
	hostUnreachable
	prohibited // kelp or the host's firewall does not allow it
)

func tcpipAddr(a netip.Addr) tcpip.Address { return tcpip.AddrFromSlice(a.AsSlice()) }

// ipPacket returns a packet of n bytes of payload from src to dst, its
// header filled in, and the payload.
func ipPacket(src, dst netip.Addr, proto tcpip.TransportProtocolNumber, n int) (pkt, payload []byte) {
	if src.Is4() {
		pkt = make([]byte, header.IPv4MinimumSize+n)
		h := header.IPv4(pkt)
		h.Encode(&header.IPv4Fields{
			TotalLength: uint16(len(pkt)),
			TTL:         64,
			Protocol:    uint8(proto),
			SrcAddr:     tcpipAddr(src),
			DstAddr:     tcpipAddr(dst),
		})
		h.SetChecksum(^h.CalculateChecksum())
		return pkt, pkt[header.IPv4MinimumSize:]
	}
	pkt = make([]byte, header.IPv6MinimumSize+n)
	header.IPv6(pkt).Encode(&header.IPv6Fields{
		PayloadLength:     uint16(n),
		TransportProtocol: proto,
		HopLimit:          64,
		SrcAddr:           tcpipAddr(src),
		DstAddr:           tcpipAddr(dst),
	})
	return pkt, pkt[header.IPv6MinimumSize:]
}

// resetFor returns the answer of a host on which nothing listens to the SYN
// with this sequence number.
func resetFor(id flowID, seq uint32) []byte {
	pkt, payload := ipPacket(id.remote.Addr(), id.container.Addr(), header.TCPProtocolNumber, header.TCPMinimumSize)
	h := header.TCP(payload)
	h.Encode(&header.TCPFields{
		SrcPort:    id.remote.Port(),
		DstPort:    id.container.Port(),
		AckNum:     seq + 1,
		DataOffset: header.TCPMinimumSize,
		Flags:      header.TCPFlagRst | header.TCPFlagAck,
	})
	sum := header.PseudoHeaderChecksum(header.TCPProtocolNumber, tcpipAddr(id.remote.Addr()), tcpipAddr(id.container.Addr()), header.TCPMinimumSize)
	h.SetChecksum(^h.CalculateChecksum(sum))
	return pkt
}

// maxQuote is how much of the packet in question an ICMP error quotes.
const maxQuote = 512

// unreachableFor returns the ICMP error that answers quote, a packet from the
// container, as if its destination or a router there had sent it.
func unreachableFor(id flowID, why refusal, quote []byte) []byte {
	if id.remote.Addr().Is4() {
		return icmpError(id.remote.Addr(), id.container.Addr(), uint8(header.ICMPv4DstUnreachable), uint8(map[refusal]header.ICMPv4Code{
			portUnreachable: header.ICMPv4PortUnreachable,
			netUnreachable:  header.ICMPv4NetUnreachable,
			hostUnreachable: header.ICMPv4HostUnreachable,
			prohibited:      header.ICMPv4AdminProhibited,
		}[why]), quote)
	}
	return icmpError(id.remote.Addr(), id.container.Addr(), uint8(header.ICMPv6DstUnreachable), uint8(map[refusal]header.ICMPv6Code{
		portUnreachable: header.ICMPv6PortUnreachable,
		netUnreachable:  header.ICMPv6NetworkUnreachable,
		hostUnreachable: header.ICMPv6AddressUnreachable,
		prohibited:      header.ICMPv6Prohibited,
	}[why]), quote)
}

// icmpError returns an ICMP error of a type and code about the packet quote.
func icmpError(from, to netip.Addr, kind, code uint8, quote []byte) []byte {
	quote = quote[:min(len(quote), maxQuote)]
	if from.Is4() {
		pkt, payload := ipPacket(from, to, header.ICMPv4ProtocolNumber, header.ICMPv4MinimumSize+len(quote))
		h := header.ICMPv4(payload)
		h.SetType(header.ICMPv4Type(kind))
		h.SetCode(header.ICMPv4Code(code))
		copy(payload[header.ICMPv4MinimumSize:], quote)
		h.SetChecksum(^checksum.Checksum(payload, 0))
		return pkt
	}
	pkt, payload := ipPacket(from, to, header.ICMPv6ProtocolNumber, header.ICMPv6DstUnreachableMinimumSize+len(quote))
	h := header.ICMPv6(payload)
	h.SetType(header.ICMPv6Type(kind))
	h.SetCode(header.ICMPv6Code(code))
	copy(payload[header.ICMPv6DstUnreachableMinimumSize:], quote)
	setICMPv6Checksum(h, from, to)
	return pkt
}

func setICMPv6Checksum(h header.ICMPv6, src, dst netip.Addr) {
	h.SetChecksum(0)
	h.SetChecksum(header.ICMPv6Checksum(header.ICMPv6ChecksumParams{Header: h, Src: tcpipAddr(src), Dst: tcpipAddr(dst)}))
}

// packet is a copy of an IP packet of a container; its payload starts at head.
type packet struct {
	bytes []byte
	head  int
}

func (p packet) payload() []byte { return p.bytes[p.head:] }

// ttl is how many more routers the packet may pass.
func (p packet) ttl() int {
	if header.IPVersion(p.bytes) == header.IPv6Version {
		return int(header.IPv6(p.bytes).HopLimit())
	}
	return int(header.IPv4(p.bytes).TTL())
}

func copyPacket(pkt *stack.PacketBuffer) packet {
	v := stack.PayloadSince(pkt.NetworkHeader())
	defer v.Release()
	return packet{bytes: append([]byte(nil), v.AsSlice()...), head: len(pkt.NetworkHeader().Slice())}
}
