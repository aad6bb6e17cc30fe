package forward

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kelp-engine/kelp/netstack/link"
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
)

const (
	// maxUDPFlows bounds a network's UDP flows; the one that was quiet the
	// longest makes room for a new one.
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

	mu     sync.Mutex
	closed bool
	flows  map[flowID]*udpFlow
}

// udpFlow is what a container's port exchanges with one remote port.
type udpFlow struct {
	id    flowID
	outer *net.UDPConn
	inner io.WriteCloser
	idle  time.Duration
	// used is when the last datagram passed, in nanoseconds since an epoch
	// of the process.
	used atomic.Int64
	// quote is the head of the flow's first packet, for ICMP errors.
	quote []byte
}

var epoch = time.Now()

func now() int64 { return int64(time.Since(epoch)) }

func newUDPFlows(ctx context.Context, c *core) *udpFlows {
	u := &udpFlows{core: c, flows: map[flowID]*udpFlow{}}
	c.stack.SetTransportProtocolHandler(udp.ProtocolNumber, u.handle)
	c.tasks.Go(func() { u.sweep(ctx) })
	return u
}

func (u *udpFlows) close() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.closed = true
	for _, f := range u.flows {
		f.end()
	}
}

// handle sees every datagram that no flow of the stack takes.
func (u *udpFlows) handle(tid stack.TransportEndpointID, pkt *stack.PacketBuffer) bool {
	id := flowOf(tid)
	u.mu.Lock()
	f := u.flows[id]
	u.mu.Unlock()
	if f == nil {
		var ok bool
		if f, ok = u.newFlow(id, pkt); !ok {
			return true
		}
	}
	// With an inner kernel socket only what comes before it is ready.
	u.toHost(f, pkt.Data().AsRange().ToSlice())
	return true
}

// newFlow opens both ends of a flow. ok is false when the datagram was
// answered or dropped.
func (u *udpFlows) newFlow(id flowID, pkt *stack.PacketBuffer) (_ *udpFlow, ok bool) {
	quote := copyPacket(pkt)
	quote.bytes = quote.bytes[:min(len(quote.bytes), quote.head+header.UDPMinimumSize)]
	target, ok := u.policy.target(id.container.Addr(), id.remote.Addr())
	if !ok {
		u.send(unreachableFor(id, prohibited, quote.bytes))
		return nil, false
	}
	outer, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(target, id.remote.Port())))
	if err != nil {
		if why, ok := refusalFor(err); ok {
			u.send(unreachableFor(id, why, quote.bytes))
		}
		return nil, false
	}
	_ = outer.SetReadBuffer(link.DatagramBuffer) // smaller is slower, not wrong
	f := &udpFlow{id: id, outer: outer, idle: udpIdle, quote: quote.bytes}
	if id.remote.Port() == dnsPort {
		f.idle = dnsIdle
	}
	if err := u.start(f); err != nil {
		outer.Close()
		u.log.Debug("cannot open a container's UDP flow", "error", err)
		return nil, false
	}
	return f, true
}

// start makes the end that speaks with the container under the
// remote's address: a kernel socket where possible, else the stack.
func (u *udpFlows) start(f *udpFlow) error {
	f.touch()
	var kernel *net.UDPConn
	if !u.cfg.StackOnly && u.cfg.Bridge.Transparent && !u.cfg.Bridge.Owns(f.id.container.Addr()) {
		var err error
		if kernel, err = u.cfg.Bridge.DialUDP(link.Local{Addr: f.id.remote, Foreign: true}, f.id.container); err != nil {
			return err
		}
		f.inner = kernel
	} else {
		f.inner = stackDatagrams{u.core, f.id}
	}
	if !u.add(f) {
		f.inner.Close()
		return net.ErrClosed
	}
	refused := func(err error) { u.refuse(f, err) } // the flow stays: the remote may open its port
	if kernel == nil {
		u.tasks.Go(func() {
			defer u.remove(f)
			u.toContainer(f)
		})
		return nil
	}
	u.tasks.Go(func() {
		defer u.remove(f)
		relayDatagrams(f.outer, kernel, f.touch, refused, nil)
	})
	u.tasks.Go(func() {
		defer u.remove(f)
		relayDatagrams(kernel, f.outer, f.touch, nil, refused)
	})
	return nil
}

// add enters f and makes room for it.
func (u *udpFlows) add(f *udpFlow) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.closed {
		return false
	}
	if len(u.flows) >= maxUDPFlows {
		var oldest *udpFlow
		for _, other := range u.flows {
			if oldest == nil || other.used.Load() < oldest.used.Load() {
				oldest = other
			}
		}
		delete(u.flows, oldest.id)
		oldest.end()
	}
	u.flows[f.id] = f
	return true
}

func (u *udpFlows) remove(f *udpFlow) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.flows[f.id] == f {
		delete(u.flows, f.id)
	}
	f.end()
}

// toHost sends one datagram of the container.
func (u *udpFlows) toHost(f *udpFlow, payload []byte) {
	f.touch()
	if _, err := f.outer.Write(payload); err != nil {
		u.refuse(f, err)
	}
}

// toContainer carries what the host's socket receives until the flow ends.
func (u *udpFlows) toContainer(f *udpFlow) {
	for {
		err := readDatagrams(f.outer, func(b []byte) {
			f.touch()
			_, _ = f.inner.Write(b)
		})
		if errors.Is(err, net.ErrClosed) {
			return
		}
		u.refuse(f, err) // the flow stays: the remote may open its port
	}
}

// refuse tells the container what the host was told about the remote port.
func (u *udpFlows) refuse(f *udpFlow, err error) {
	if errors.Is(err, net.ErrClosed) {
		return
	}
	if why, ok := refusalFor(err); ok {
		u.send(unreachableFor(f.id, why, f.quote))
	}
}

// stackDatagrams sends datagrams to a container through the stack, which
// splits those that are too long for the link.
type stackDatagrams struct {
	core *core
	id   flowID
}

func (d stackDatagrams) Write(payload []byte) (int, error) {
	proto := header.IPv4ProtocolNumber
	if d.id.remote.Addr().Is6() {
		proto = header.IPv6ProtocolNumber
	}
	from, to := tcpipAddr(d.id.remote.Addr()), tcpipAddr(d.id.container.Addr())
	r, terr := d.core.stack.FindRoute(nicID, from, to, proto, false)
	if terr != nil {
		return 0, fmt.Errorf("cannot reach the container: %s", terr)
	}
	defer r.Release()
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{
		ReserveHeaderBytes: header.UDPMinimumSize + int(r.MaxHeaderLength()),
		Payload:            buffer.MakeWithData(payload),
	})
	defer pkt.DecRef()
	pkt.TransportProtocolNumber = header.UDPProtocolNumber
	length := uint16(header.UDPMinimumSize + len(payload))
	h := header.UDP(pkt.TransportHeader().Push(header.UDPMinimumSize))
	h.Encode(&header.UDPFields{SrcPort: d.id.remote.Port(), DstPort: d.id.container.Port(), Length: length})
	sum := r.PseudoHeaderChecksum(header.UDPProtocolNumber, length)
	h.SetChecksum(^h.CalculateChecksum(checksum.Combine(sum, pkt.Data().Checksum())))
	if terr := r.WritePacket(stack.NetworkHeaderParams{Protocol: header.UDPProtocolNumber, TTL: r.DefaultTTL()}, pkt); terr != nil {
		return 0, fmt.Errorf("cannot send to the container: %s", terr)
	}
	return len(payload), nil
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
		for id, f := range u.flows {
			if f.quiet() {
				delete(u.flows, id)
				f.end()
			}
		}
		u.mu.Unlock()
	}
}

func (f *udpFlow) touch() { f.used.Store(now()) }

func (f *udpFlow) quiet() bool { return time.Duration(now()-f.used.Load()) > f.idle }

// end closes both ends; the flow's goroutines then return.
func (f *udpFlow) end() {
	f.outer.Close()
	f.inner.Close()
}
