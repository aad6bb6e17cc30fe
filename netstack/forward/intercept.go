package forward

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"github.com/kelp-engine/kelp/netstack/link"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// interceptor ends containers' connections at kernel sockets of the network's
// namespace. The stack still sees each SYN first and lets the host decide; an
// accepted SYN goes back to the namespace, where a packet rule leads it to the
// interceptor's listener instead of the uplink.
type interceptor struct{ acceptors []*acceptor }

func (t *tcpFlows) newInterceptor(ctx context.Context) (*interceptor, error) {
	i := &interceptor{}
	var addrs [2]netip.AddrPort
	loopbacks := []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1})}
	if t.cfg.IPv6 {
		loopbacks = append(loopbacks, netip.IPv6Loopback())
	}
	for n, a := range loopbacks {
		acceptor, at, err := t.acceptTransparent(ctx, a)
		if err != nil {
			i.close()
			return nil, err
		}
		i.acceptors, addrs[n] = append(i.acceptors, acceptor), at
	}
	if err := t.cfg.Bridge.Intercept(addrs[0], addrs[1]); err != nil {
		i.close()
		return nil, err
	}
	return i, nil
}

// acceptTransparent listens on a free port of a loopback address of the
// network's namespace, where no container can reach it but by the packet rule.
func (t *tcpFlows) acceptTransparent(ctx context.Context, a netip.Addr) (*acceptor, netip.AddrPort, error) {
	lc := net.ListenConfig{Control: transparent}
	lc.SetMultipathTCP(false)
	var l net.Listener
	err := t.cfg.Bridge.Do(func() (err error) {
		l, err = lc.Listen(ctx, "tcp", netip.AddrPortFrom(a, 0).String())
		return err
	})
	if err != nil {
		return nil, netip.AddrPort{}, fmt.Errorf("cannot listen for containers' connections: %w", err)
	}
	at := l.Addr().(*net.TCPAddr).AddrPort()
	acceptor, err := startAcceptor(l.(*net.TCPListener), t.takeUp, t.log)
	return acceptor, at, err
}

// transparent lets a socket use addresses that are not its namespace's, and
// sets what accepted connections inherit.
func transparent(network, _ string, c syscall.RawConn) error {
	var err error
	ctl := c.Control(func(fd uintptr) {
		_ = link.PassOn(int(fd))
		keepAlive(int(fd))
		err = link.SetTransparent(int(fd), network[len(network)-1] == '6')
	})
	return errors.Join(ctl, err)
}

func (i *interceptor) close() {
	for _, a := range i.acceptors {
		a.close()
	}
}

// takeUp joins a container's connection with the one that the host made for it.
func (t *tcpFlows) takeUp(at *pump, fd int, container netip.AddrPort) {
	host, ok := t.takeDialed(flowID{container: container, remote: localAddr(fd)})
	if !ok {
		resetSocket(fd)
		return
	}
	at.spread(func(at *pump) {
		f := at.startFlow(fd, host, 0, func(f *flow) { t.open.remove(f) })
		if !t.open.add(f, container.Addr()) {
			f.ended = func() {}
			f.reset()
			return
		}
		f.begin()
	})
}

// withChecksum makes a SYN fit to be sent again: it fills in the checksum that
// the container left to its device.
func withChecksum(syn packet) []byte {
	var src, dst tcpip.Address
	if header.IPVersion(syn.bytes) == header.IPv6Version {
		ip := header.IPv6(syn.bytes)
		src, dst = ip.SourceAddress(), ip.DestinationAddress()
	} else {
		ip := header.IPv4(syn.bytes)
		src, dst = ip.SourceAddress(), ip.DestinationAddress()
	}
	segment := syn.bytes[syn.head:]
	h := header.TCP(segment)
	h.SetChecksum(0)
	sum := header.PseudoHeaderChecksum(header.TCPProtocolNumber, src, dst, uint16(len(segment)))
	h.SetChecksum(^checksum.Checksum(segment, sum))
	return syn.bytes
}
