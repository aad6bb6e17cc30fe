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
type interceptor struct {
	listeners []*net.TCPListener
}

func (t *tcpFlows) newInterceptor(ctx context.Context) (*interceptor, error) {
	i := &interceptor{}
	var addrs [2]netip.AddrPort
	loopbacks := []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1})}
	if t.cfg.IPv6 {
		loopbacks = append(loopbacks, netip.IPv6Loopback())
	}
	for n, a := range loopbacks {
		l, err := t.listenTransparent(ctx, a)
		if err != nil {
			i.close()
			return nil, err
		}
		i.listeners = append(i.listeners, l)
		addrs[n] = l.Addr().(*net.TCPAddr).AddrPort()
	}
	if err := t.cfg.Bridge.Intercept(addrs[0], addrs[1]); err != nil {
		i.close()
		return nil, err
	}
	for _, l := range i.listeners {
		t.tasks.Go(func() { t.acceptIntercepted(ctx, l) })
	}
	return i, nil
}

// listenTransparent listens on a free port of a loopback address of the
// network's namespace, where no container can reach it but by the packet rule.
func (t *tcpFlows) listenTransparent(ctx context.Context, a netip.Addr) (*net.TCPListener, error) {
	lc := net.ListenConfig{Control: transparent}
	lc.SetMultipathTCP(false)
	var l net.Listener
	err := t.cfg.Bridge.Do(func() (err error) {
		l, err = lc.Listen(ctx, "tcp", netip.AddrPortFrom(a, 0).String())
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("cannot listen for containers' connections: %w", err)
	}
	return l.(*net.TCPListener), nil
}

// transparent lets a socket use addresses that are not its namespace's.
func transparent(network, address string, c syscall.RawConn) error {
	var err error
	ctl := c.Control(func(fd uintptr) { err = link.SetTransparent(int(fd), network[len(network)-1] == '6') })
	return errors.Join(ctl, err)
}

func (i *interceptor) close() {
	for _, l := range i.listeners {
		l.Close()
	}
}

func (t *tcpFlows) acceptIntercepted(ctx context.Context, l *net.TCPListener) {
	for {
		inner, err := l.AcceptTCP()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			pauseAfter(ctx, err, t.log)
			continue
		}
		id := flowID{
			container: unmapped(inner.RemoteAddr().(*net.TCPAddr).AddrPort()),
			remote:    unmapped(inner.LocalAddr().(*net.TCPAddr).AddrPort()),
		}
		host := t.takeDialed(id)
		if host == nil {
			abortTCP(inner)
			continue
		}
		_ = inner.SetKeepAliveConfig(t.dialer.KeepAliveConfig)
		t.carry(newKernelRelay(inner, host))
	}
}

func unmapped(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
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
