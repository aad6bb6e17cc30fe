package forward

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kelp-engine/kelp/netstack/link"
	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
)

const (
	// maxUDPFlows bounds a network's UDP flows; one of the container's own
	// that was quiet for long makes room for a new one.
	maxUDPFlows = 4096
	// udpIdle ends a quiet flow. RFC 4787 wants two minutes at least.
	udpIdle = 2 * time.Minute
	// dnsIdle ends a quiet flow to port 53, of which there are many.
	dnsIdle = 20 * time.Second
	// udpSweep is how often quiet flows are looked for.
	udpSweep = 5 * time.Second

	dnsPort = 53
)

// udpFlows are a network's outgoing UDP flows.
type udpFlows struct {
	*core

	mu       sync.Mutex
	closed   bool
	flows    map[flowID]*udpFlow
	mappings map[netip.AddrPort]*udpMapping // by the container's port
	share    *quota[netip.Addr]             // of each container in the flows
}

// udpFlow is what a container's port exchanges with one remote port.
type udpFlow struct {
	id      flowID
	target  netip.AddrPort // the remote, as the host calls it
	mapping *udpMapping
	inner   innerUDP
	idle    time.Duration
	// used is when the last datagram passed, in nanoseconds since an epoch
	// of the process.
	used atomic.Int64
	// quote is the head of the flow's first packet, for ICMP errors; nil when
	// the remote began.
	quote []byte
}

// innerUDP is the end of a flow that speaks with the container under the
// remote's address.
type innerUDP interface {
	// deliver sends received datagrams to the container.
	deliver(b *batch, first, end int)
	Close() error
}

var epoch = time.Now()

func now() int64 { return int64(time.Since(epoch)) }

func newUDPFlows(ctx context.Context, c *core) *udpFlows {
	u := &udpFlows{core: c, flows: map[flowID]*udpFlow{}, mappings: map[netip.AddrPort]*udpMapping{}, share: newQuota[netip.Addr](maxUDPFlows)}
	c.stack.SetTransportProtocolHandler(udp.ProtocolNumber, u.handle)
	c.tasks.Go(func() { u.sweep(ctx) })
	return u
}

func (u *udpFlows) close() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.closed = true
	for _, f := range u.flows {
		u.end(f)
	}
}

// handle sees every datagram that no flow of the stack takes.
func (u *udpFlows) handle(tid stack.TransportEndpointID, pkt *stack.PacketBuffer) bool {
	id := flowOf(tid)
	u.mu.Lock()
	f := u.flows[id]
	u.mu.Unlock()
	if f == nil {
		quote := copyPacket(pkt)
		quote.bytes = quote.bytes[:min(len(quote.bytes), quote.head+header.UDPMinimumSize)]
		target, ok := u.policy.target(id.container.Addr(), id.remote.Addr())
		if !ok {
			u.send(unreachableFor(id, prohibited, quote.bytes))
			return true
		}
		f = &udpFlow{id: id, target: netip.AddrPortFrom(target, id.remote.Port()), quote: quote.bytes}
		if err := u.open(f); err != nil {
			if !errors.Is(err, unix.EALREADY) {
				u.refuse(f, err)
			}
			return true
		}
	}
	// With an inner kernel socket only what comes before it is ready.
	f.touch()
	if err := f.mapping.write(pkt.Data().AsRange().ToSlice(), f.target, packet{bytes: pkt.NetworkHeader().Slice()}.ttl()); err != nil {
		u.refuse(f, err)
	}
	return true
}

// open makes the flow's end towards the container, a kernel socket where
// possible, else the stack, and joins it to the port's mapping.
func (u *udpFlows) open(f *udpFlow) error {
	f.idle = udpIdle
	if f.id.remote.Port() == dnsPort {
		f.idle = dnsIdle
	}
	f.touch()
	if u.cfg.StackOnly || !u.cfg.Bridge.Transparent || u.cfg.Bridge.Owns(f.id.container.Addr()) {
		f.inner = stackDatagrams{u.core, f.id}
		return u.add(f)
	}
	kernel, err := u.cfg.Bridge.DialUDP(link.Local{Addr: f.id.remote, Foreign: true}, f.id.container)
	if err != nil {
		return err
	}
	toInner, err := newDatagramSender(kernel, netip.AddrPort{}, nil)
	if err != nil {
		kernel.Close()
		return err
	}
	f.inner = kernelDatagrams{kernel, toInner}
	if err := u.add(f); err != nil {
		kernel.Close()
		return err
	}
	u.tasks.Go(func() {
		defer u.remove(f)
		u.toHost(f, kernel)
	})
	return nil
}

// toHost carries what the container sends.
func (u *udpFlows) toHost(f *udpFlow, inner *net.UDPConn) {
	toOuter, err := newDatagramSender(f.mapping.outer, f.target, nil)
	if err != nil {
		return
	}
	receiveBatches(inner, func(b *batch) error {
		f.touch()
		refused, closed := toOuter.send(b, 0, b.n)
		if refused != nil {
			u.refuse(f, refused) // the flow stays: the remote may come back
		}
		return closed
	}, nil)
}

// add enters f and makes room for it.
func (u *udpFlows) add(f *udpFlow) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.closed {
		return net.ErrClosed
	}
	if u.flows[f.id] != nil {
		return unix.EALREADY // both ends began at once
	}
	who := f.id.container.Addr()
	if !u.share.take(who) {
		u.end(u.oldest(who))
		u.share.take(who)
	}
	if !descriptors.take(who, udpCost, u.log) {
		u.share.give(who)
		return unix.ENFILE
	}
	if err := u.join(f); err != nil {
		u.share.give(who)
		descriptors.give(who, udpCost)
		return err
	}
	u.flows[f.id] = f
	return nil
}

// oldest is a flow that may end for a new one of a container: the quietest of
// some of its own, or of anybody's where it has none.
//
// Preconditions: u.mu is held; there are flows.
func (u *udpFlows) oldest(who netip.Addr) (oldest *udpFlow) {
	own, seen := u.share.held[who] > 0, 0
	for _, f := range u.flows {
		if own && f.id.container.Addr() != who {
			continue
		}
		if oldest == nil || f.used.Load() < oldest.used.Load() {
			oldest = f
		}
		if seen++; seen == oldestOf {
			break
		}
	}
	return oldest
}

func (u *udpFlows) remove(f *udpFlow) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.end(f)
}

// end closes a flow and, when it was the last of its mapping, that.
//
// Preconditions: u.mu is held.
func (u *udpFlows) end(f *udpFlow) {
	if u.flows[f.id] != f {
		return
	}
	delete(u.flows, f.id)
	u.share.give(f.id.container.Addr())
	descriptors.give(f.id.container.Addr(), udpCost)
	f.inner.Close()
	u.leave(f)
}

// refuse tells the container what the host was told about the remote port.
func (u *udpFlows) refuse(f *udpFlow, err error) {
	if errors.Is(err, net.ErrClosed) || errors.Is(err, unix.EMSGSIZE) || f.quote == nil {
		return
	}
	warnOfPorts(u.log, err)
	if why, ok := refusalFor(err); ok {
		u.send(unreachableFor(f.id, why, f.quote))
	}
}

// kernelDatagrams is a socket of the network's namespace.
type kernelDatagrams struct {
	*net.UDPConn
	sender *datagramSender
}

func (k kernelDatagrams) deliver(b *batch, first, end int) { _, _ = k.sender.send(b, first, end) }

// stackDatagrams sends datagrams to a container through the stack, which
// splits those that are too long for the link.
type stackDatagrams struct {
	core *core
	id   flowID
}

func (d stackDatagrams) deliver(b *batch, first, end int) {
	for i := first; i < end; i++ {
		if err := d.send(b.datagram(i)); err != nil {
			d.core.log.Debug("cannot send a datagram to a container", "error", err)
		}
	}
}

func (d stackDatagrams) send(payload []byte) error {
	from, to := d.id.remote, d.id.container
	h := make(header.UDP, header.UDPMinimumSize)
	length := uint16(len(h) + len(payload))
	h.Encode(&header.UDPFields{SrcPort: from.Port(), DstPort: to.Port(), Length: length})
	sum := header.PseudoHeaderChecksum(header.UDPProtocolNumber, tcpipAddr(from.Addr()), tcpipAddr(to.Addr()), length)
	h.SetChecksum(^h.CalculateChecksum(checksum.Checksum(payload, sum)))
	return d.core.deliver(header.UDPProtocolNumber, from.Addr(), to.Addr(), h, payload)
}

func (d stackDatagrams) Close() error { return nil }

// sweep ends quiet flows.
func (u *udpFlows) sweep(ctx context.Context) {
	tick := time.NewTicker(udpSweep)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		u.mu.Lock()
		for _, f := range u.flows {
			if f.quiet() {
				u.end(f)
			}
		}
		u.mu.Unlock()
	}
}

func (f *udpFlow) touch() { f.used.Store(now()) }

func (f *udpFlow) quiet() bool { return time.Duration(now()-f.used.Load()) > f.idle }
