package forward

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
)

const (
	// maxPingFlows bounds a network's concurrent pings. Each container has a
	// share.
	maxPingFlows = 256
	// pingIdle ends a ping that is no longer answered.
	pingIdle = 15 * time.Second
)

// pingFlows are the echo requests that a network's containers have under way.
// The identifier of a ping takes the place of the ports in a flowID.
type pingFlows struct {
	*core

	mu     sync.Mutex
	closed bool
	flows  map[flowID]*pingFlow
	share  *quota[netip.Addr] // of each container in the flows
	// forbidden says once in the log why pings are answered with an error.
	forbidden sync.Once
}

// pingFlow is one container's ping of one host: a ping socket that its
// identifier is translated to.
type pingFlow struct {
	id    flowID
	outer *net.UDPConn // an unprivileged ICMP socket, which net treats alike
	// target is the remote, as the host calls it.
	target netip.Addr
	// quote is the head of the first request.
	quote packet
	used  atomic.Int64
}

func newPingFlows(c *core) *pingFlows {
	p := &pingFlows{core: c, flows: map[flowID]*pingFlow{}, share: newQuota[netip.Addr](maxPingFlows)}
	c.stack.SetTransportProtocolHandler(icmp.ProtocolNumber4, p.handle4)
	c.stack.SetTransportProtocolHandler(icmp.ProtocolNumber6, p.handle6)
	return p
}

func (p *pingFlows) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for _, f := range p.flows {
		f.outer.Close()
	}
}

// handle4 takes every ICMP message, so that the stack itself answers none.
func (p *pingFlows) handle4(_ stack.TransportEndpointID, pkt *stack.PacketBuffer) bool {
	echo := copyPacket(pkt)
	h := header.ICMPv4(echo.payload())
	if len(h) >= header.ICMPv4MinimumSize && h.Type() == header.ICMPv4Echo {
		ip := header.IPv4(echo.bytes)
		p.handle(addrFrom(ip.SourceAddress()), addrFrom(ip.DestinationAddress()), h.Ident(), echo)
	}
	return true
}

func (p *pingFlows) handle6(_ stack.TransportEndpointID, pkt *stack.PacketBuffer) bool {
	echo := copyPacket(pkt)
	h := header.ICMPv6(echo.payload())
	if len(h) >= header.ICMPv6EchoMinimumSize && h.Type() == header.ICMPv6EchoRequest {
		ip := header.IPv6(echo.bytes)
		p.handle(addrFrom(ip.SourceAddress()), addrFrom(ip.DestinationAddress()), h.Ident(), echo)
	}
	return true
}

func (p *pingFlows) handle(container, remote netip.Addr, ident uint16, echo packet) {
	id := flowID{netip.AddrPortFrom(container, ident), netip.AddrPortFrom(remote, ident)}
	target, ok := p.policy.target(container, remote)
	if !ok {
		p.send(unreachableFor(id, prohibited, echo.bytes))
		return
	}
	f, err := p.flow(id, target, echo)
	if err == nil {
		err = f.write(echo)
	}
	if err == nil {
		return
	}
	if errors.Is(err, errNoPing) {
		p.forbidden.Do(func() {
			p.log.Warn("the host does not let its users ping, so containers cannot ping beyond their network",
				"hint", "as root: sysctl -w net.ipv4.ping_group_range='0 2147483647'")
		})
	}
	if why, ok := refusalFor(err); ok {
		p.send(unreachableFor(id, why, echo.bytes))
	}
}

// write sends a request; the kernel puts its own identifier and checksum.
func (f *pingFlow) write(echo packet) error {
	f.used.Store(now())
	raw, err := f.outer.SyscallConn()
	if err != nil {
		return err
	}
	var sent error
	closed := raw.Control(func(fd uintptr) {
		for range 2 { // an error may be of an earlier request
			sent = unix.Sendmsg(int(fd), echo.payload(), ttlMessage(echo.ttl(), f.target.Is6()), nil, 0)
			if sent == nil {
				return
			}
		}
	})
	return errors.Join(closed, sent)
}

// flow finds or opens the socket of a ping.
func (p *pingFlows) flow(id flowID, target netip.Addr, echo packet) (*pingFlow, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if f := p.flows[id]; f != nil {
		return f, nil
	}
	if p.closed {
		return nil, net.ErrClosed
	}
	who := id.container.Addr()
	if !p.share.take(who) {
		return nil, unix.ENOBUFS
	}
	if !descriptors.take(who, socketCost, p.log) {
		p.share.give(who)
		return nil, unix.ENFILE
	}
	outer, err := dialPing(target)
	if err != nil {
		p.giveBack(who)
		return nil, err
	}
	echo.bytes = echo.bytes[:echo.head+header.ICMPv4MinimumSize] // of both families
	f := &pingFlow{id: id, outer: outer, target: target, quote: echo}
	p.flows[id] = f
	p.tasks.Go(func() { p.read(f) })
	return f, nil
}

// giveBack ends what a ping counted for.
//
// Preconditions: p.mu is held.
func (p *pingFlows) giveBack(who netip.Addr) {
	p.share.give(who)
	descriptors.give(who, socketCost)
}

var errNoPing = errors.New("the host does not let its users ping")

// dialPing opens an unprivileged ICMP socket (see ping_group_range in icmp(7)).
func dialPing(target netip.Addr) (*net.UDPConn, error) {
	domain, proto := unix.AF_INET, unix.IPPROTO_ICMP
	var to unix.Sockaddr
	if target.Is6() {
		domain, proto = unix.AF_INET6, unix.IPPROTO_ICMPV6
		to = &unix.SockaddrInet6{Addr: target.As16()}
	} else {
		to = &unix.SockaddrInet4{Addr: target.As4()}
	}
	fd, err := unix.Socket(domain, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, proto)
	if err == unix.EACCES || err == unix.EPERM {
		return nil, fmt.Errorf("%w: %w", errNoPing, err)
	}
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	f := os.NewFile(uintptr(fd), "ping")
	defer f.Close() // FileConn keeps a copy
	if err := recvErr(fd, target.Is6()); err != nil {
		return nil, os.NewSyscallError("setsockopt", err)
	}
	if err := unix.Connect(fd, to); err != nil {
		return nil, os.NewSyscallError("connect", err)
	}
	c, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	return c.(*net.UDPConn), nil
}

// read passes answers on until the ping has been quiet for a while.
func (p *pingFlows) read(f *pingFlow) {
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.flows, f.id)
		p.giveBack(f.id.container.Addr())
		f.outer.Close()
	}()
	raw, err := f.outer.SyscallConn()
	if err != nil {
		return
	}
	receive := func(fd uintptr) bool {
		buf := copyBuffers.Get().(*[copyBuffer]byte)
		defer copyBuffers.Put(buf)
		var n int
		if n, err = unix.Read(int(fd), buf[:]); err != nil {
			p.hearErrors(f, int(fd))
			return err != unix.EAGAIN
		}
		p.answer(f.id, buf[:n])
		return true
	}
	for {
		_ = f.outer.SetReadDeadline(time.Now().Add(pingIdle))
		switch closed := raw.Read(receive); {
		case closed == nil && err == nil:
		case time.Duration(now()-f.used.Load()) > pingIdle, errors.Is(closed, net.ErrClosed):
			return
		}
	}
}

// hearErrors passes on what ICMP told the socket about its requests.
func (p *pingFlows) hearErrors(f *pingFlow, fd int) {
	const sequence = 6 // its place in an echo request
	for {
		n, ok := readNotice(fd)
		if !ok {
			return
		}
		if !n.passes() || len(n.payload) < sequence+2 {
			continue
		}
		quote := slices.Clone(f.quote.bytes)
		copy(quote[f.quote.head+sequence:], n.payload[sequence:sequence+2])
		p.send(n.packet(f.id, f.target, quote))
	}
}

// answer sends an echo reply under the container's own identifier; it overwrites
// the host's in reply.
func (p *pingFlows) answer(id flowID, reply []byte) {
	if len(reply) < header.ICMPv4MinimumSize { // of both families
		return
	}
	from, to := id.remote.Addr(), id.container.Addr()
	proto := header.ICMPv4ProtocolNumber
	if from.Is4() {
		h := header.ICMPv4(reply)
		h.SetType(header.ICMPv4EchoReply)
		h.SetIdent(id.container.Port())
		h.SetChecksum(0)
		h.SetChecksum(^checksum.Checksum(reply, 0))
	} else {
		proto = header.ICMPv6ProtocolNumber
		h := header.ICMPv6(reply)
		h.SetType(header.ICMPv6EchoReply)
		h.SetIdent(id.container.Port())
		setICMPv6Checksum(h, from, to)
	}
	head, data := reply[:header.ICMPv4MinimumSize], reply[header.ICMPv4MinimumSize:]
	if err := p.deliver(proto, from, to, head, data); err != nil {
		p.log.Debug("cannot send a ping's answer to a container", "error", err)
	}
}
