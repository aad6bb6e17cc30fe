package forward

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"syscall"

	"github.com/kelp-engine/kelp/netstack/link"
)

// maxUninvited bounds the flows of a mapping that remotes began.
const maxUninvited = 64

// udpMapping is the host's socket behind one port of a container. Whatever
// remote the container sends to, its datagrams come from the same port of the
// host (RFC 4787: endpoint-independent mapping), so peers can tell each other
// where to find it. It takes datagrams from the addresses that the container
// has sent to, from any of their ports (address-dependent filtering).
type udpMapping struct {
	outer *net.UDPConn
	gone  chan struct{} // closed when the port is free again
	// Guarded by the udpFlows' mu.
	flows     map[netip.AddrPort]*udpFlow // by target
	uninvited int                         // flows that remotes began
}

// join adds f to its port's mapping, which it opens when there is none.
//
// Preconditions: u.mu is held.
func (u *udpFlows) join(f *udpFlow) error {
	m := u.mappings[f.id.container]
	if m == nil {
		outer, err := listenAnywhere(f.target.Addr().Is6())
		if err != nil {
			return err
		}
		m = &udpMapping{outer: outer, gone: make(chan struct{}), flows: map[netip.AddrPort]*udpFlow{}}
		u.mappings[f.id.container] = m
		mapped.Store(m.port(), func() { u.giveUp(m) })
		u.tasks.Go(func() { u.receive(m) })
	}
	m.flows[f.target] = f
	if f.quote == nil {
		m.uninvited++
	}
	f.mapping = m
	return nil
}

// leave takes f off its mapping.
//
// Preconditions: u.mu is held.
func (u *udpFlows) leave(f *udpFlow) {
	m := f.mapping
	delete(m.flows, f.target)
	if f.quote == nil {
		m.uninvited--
	}
	if len(m.flows) == 0 {
		delete(u.mappings, f.id.container)
		u.tasks.Go(func() { // Close waits for hearErrors, which waits for u.mu
			port := m.port()
			m.outer.Close()
			mapped.Delete(port)
			close(m.gone)
		})
	}
}

// mapped holds, by the port of the host, how to take each mapping's port back.
var mapped sync.Map // of hostPort to func()

type hostPort struct {
	port uint16
	ipv6 bool
}

func (m *udpMapping) port() hostPort {
	a := m.outer.LocalAddr().(*net.UDPAddr).AddrPort()
	return hostPort{a.Port(), !unmapped(a).Addr().Is4()}
}

// vacate frees a port of the host that a container's datagrams leave from, for
// somebody who asks for this one. What the container sends next goes from
// another. It says whether there was such a mapping.
func vacate(host netip.AddrPort) bool {
	giveUp, ok := mapped.Load(hostPort{host.Port(), host.Addr().Is6()})
	if ok {
		giveUp.(func())()
	}
	return ok
}

// giveUp ends a mapping with all its flows.
func (u *udpFlows) giveUp(m *udpMapping) {
	u.mu.Lock()
	for _, f := range m.flows {
		u.end(f)
	}
	u.mu.Unlock()
	<-m.gone
}

// listenAnywhere opens a UDP socket that hears what became of its datagrams.
func listenAnywhere(ipv6 bool) (*net.UDPConn, error) {
	network := "udp4"
	if ipv6 {
		network = "udp6"
	}
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) (err error) {
		ctl := c.Control(func(fd uintptr) { err = recvErr(int(fd), ipv6) })
		return errors.Join(ctl, err)
	}}
	c, err := lc.ListenPacket(context.Background(), network, ":0")
	if err != nil {
		return nil, err
	}
	outer := c.(*net.UDPConn)
	_ = outer.SetReadBuffer(link.DatagramBuffer) // smaller is slower, not wrong
	return outer, nil
}

// write sends one datagram, which may pass as many routers as ttl says.
func (m *udpMapping) write(payload []byte, to netip.AddrPort, ttl int) error {
	oob := ttlMessage(ttl, to.Addr().Is6())
	_, _, err := m.outer.WriteMsgUDPAddrPort(payload, oob, to)
	if _, told := errors.AsType[syscall.Errno](err); told {
		_, _, err = m.outer.WriteMsgUDPAddrPort(payload, oob, to) // the error may be of an earlier datagram
	}
	return err
}

// receive carries what comes from all remotes, until the mapping is closed.
func (u *udpFlows) receive(m *udpMapping) {
	receiveBatches(m.outer, func(b *batch) error {
		for i := 0; i < b.n; {
			from, end := b.fromOne(i)
			if f := u.flowFrom(m, from); f != nil {
				f.touch()
				f.inner.deliver(b, i, end)
			}
			i = end
		}
		return nil
	}, func(fd int) { u.hearErrors(m, fd) })
}

// flowFrom returns the flow of a remote, a new one where it is another port of
// an address that the container has sent to, or nil.
func (u *udpFlows) flowFrom(m *udpMapping, from netip.AddrPort) *udpFlow {
	u.mu.Lock()
	f := m.flows[from]
	var known *udpFlow
	if f == nil && m.uninvited < maxUninvited {
		for target, other := range m.flows {
			if target.Addr() == from.Addr() && other.quote != nil {
				known = other
				break
			}
		}
	}
	u.mu.Unlock()
	if f != nil || known == nil {
		return f
	}
	f = &udpFlow{id: flowID{known.id.container, netip.AddrPortFrom(known.id.remote.Addr(), from.Port())}, target: from}
	if err := u.open(f); err != nil {
		u.log.Debug("cannot open a UDP flow that a remote began", "error", err)
		return nil
	}
	return f
}

// hearErrors passes on what ICMP told the socket about its datagrams.
func (u *udpFlows) hearErrors(m *udpMapping, fd int) {
	for {
		n, ok := readNotice(fd)
		if !ok {
			return
		}
		u.mu.Lock()
		f := m.flows[n.to]
		u.mu.Unlock()
		switch {
		case f == nil:
		case n.passes() && f.quote != nil:
			u.send(n.packet(f.id, f.target.Addr(), f.quote))
		default:
			u.refuse(f, n.err)
		}
	}
}
