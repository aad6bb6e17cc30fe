package forward

import (
	"encoding/binary"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// notice is what a socket with IP_RECVERR was told of a packet that it sent.
type notice struct {
	err        syscall.Errno
	to         netip.AddrPort // where the packet was to go
	payload    []byte         // the start of the packet's
	kind, code uint8          // of the ICMP message, if it was one
	from       netip.Addr     // who sent that; the zero Addr if nobody did
}

// readNotice takes the next one off a socket's error queue.
func readNotice(fd int) (n notice, ok bool) {
	payload, control := make([]byte, maxQuote), make([]byte, 512)
	for {
		k, oobn, _, to, err := unix.Recvmsg(fd, payload, control, unix.MSG_ERRQUEUE|unix.MSG_DONTWAIT)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return n, false
		}
		n.to, n.payload = addrPortOf(to), payload[:k]
		n.parse(control[:oobn])
		return n, true
	}
}

// parse reads struct sock_extended_err and the address behind it.
func (n *notice) parse(control []byte) {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return
	}
	const size, originICMP, originICMP6 = 16, 2, 3
	for _, c := range messages {
		ip := c.Header.Level == unix.SOL_IP && c.Header.Type == unix.IP_RECVERR
		ip6 := c.Header.Level == unix.SOL_IPV6 && c.Header.Type == unix.IPV6_RECVERR
		if !ip && !ip6 || len(c.Data) < size {
			continue
		}
		n.err = syscall.Errno(binary.NativeEndian.Uint32(c.Data))
		origin := c.Data[4]
		if origin != originICMP && origin != originICMP6 {
			return
		}
		n.kind, n.code = c.Data[5], c.Data[6]
		switch offender := c.Data[size:]; {
		case origin == originICMP && len(offender) >= 8:
			n.from = netip.AddrFrom4([4]byte(offender[4:8]))
		case origin == originICMP6 && len(offender) >= 24:
			n.from = netip.AddrFrom16([16]byte(offender[8:24]))
		}
		return
	}
}

// passes says whether it is news for the container as it is: who sent it, and
// not about the size of packets, which the host cuts.
func (n notice) passes() bool {
	switch {
	case !n.from.IsValid():
		return false
	case n.from.Is4():
		kind, code := header.ICMPv4Type(n.kind), header.ICMPv4Code(n.code)
		return kind == header.ICMPv4TimeExceeded || kind == header.ICMPv4DstUnreachable && code != header.ICMPv4FragmentationNeeded
	}
	kind := header.ICMPv6Type(n.kind)
	return kind == header.ICMPv6TimeExceeded || kind == header.ICMPv6DstUnreachable
}

// packet is the notice for the container that sent quote; target is what the
// host calls the remote.
func (n notice) packet(id flowID, target netip.Addr, quote []byte) []byte {
	from := n.from
	if from == target {
		from = id.remote.Addr()
	}
	return icmpError(from, id.container.Addr(), n.kind, n.code, quote)
}

func addrPortOf(a unix.Sockaddr) netip.AddrPort {
	switch a := a.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(a.Addr), uint16(a.Port))
	}
	return netip.AddrPort{}
}

// recvErr has a socket hear what becomes of its packets.
func recvErr(fd int, ipv6 bool) error {
	if ipv6 {
		return unix.SetsockoptInt(fd, unix.SOL_IPV6, unix.IPV6_RECVERR, 1)
	}
	return unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_RECVERR, 1)
}

// ordinaryTTL is more than what programs set that look for the routers on the
// way.
const ordinaryTTL = 32

// ttlMessage is a control message that gives a packet a small time to live;
// nil for an ordinary one.
func ttlMessage(ttl int, ipv6 bool) []byte {
	if ttl >= ordinaryTTL {
		return nil
	}
	b := make([]byte, unix.CmsgSpace(4))
	level, kind := int32(unix.SOL_IP), int32(unix.IP_TTL)
	if ipv6 {
		level, kind = unix.SOL_IPV6, unix.IPV6_HOPLIMIT
	}
	binary.NativeEndian.PutUint64(b, uint64(unix.CmsgLen(4)))
	binary.NativeEndian.PutUint32(b[8:], uint32(level))
	binary.NativeEndian.PutUint32(b[12:], uint32(kind))
	binary.NativeEndian.PutUint32(b[unix.SizeofCmsghdr:], uint32(ttl))
	return b
}
