package forward

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"
)

const (
	// maxDials bounds a network's connections that are being made,
	// maxTCPFlows those that are open.
	maxDials    = 1024
	maxTCPFlows = 16384
	// maxStackBuffer bounds each of the two buffers of a connection in the stack.
	maxStackBuffer = 2 << 20
	// dialTimeout ends a dial that nobody answers; the container has given up
	// by then or sends a new SYN.
	dialTimeout = 75 * time.Second
	// acceptTimeout ends a handshake that the container does not complete.
	acceptTimeout = 20 * time.Second

	keepAliveIdle     = 2 * time.Minute
	keepAliveInterval = 30 * time.Second
	keepAliveCount    = 8
)

// tcpFlows are a network's outgoing TCP connections.
type tcpFlows struct {
	*core
	forwarder *tcp.Forwarder
	kernel    *interceptor // nil when the stack carries all connections, not only those of the bridge's own namespace

	mu     sync.Mutex
	closed bool
	// dialing are handshakes of which the host has not decided yet.
	dialing map[flowID]struct{}
	// dialed are connections to the host whose handshake with the container
	// is under way.
	dialed map[flowID]*net.TCPConn
	// open are the connections that carry data.
	open map[*relay]struct{}
}

func newTCPFlows(ctx context.Context, c *core) *tcpFlows {
	t := &tcpFlows{core: c, dialing: map[flowID]struct{}{}, dialed: map[flowID]*net.TCPConn{}, open: map[*relay]struct{}{}}
	t.forwarder = tcp.NewForwarder(c.stack, 0, maxDials, t.completeInStack)
	if !c.cfg.StackOnly && c.cfg.Bridge.Transparent {
		var err error
		if t.kernel, err = t.newInterceptor(ctx); err != nil {
			c.log.Warn("connections of a network stay in the network stack, which is slower", "error", err)
		}
	}
	c.stack.SetTransportProtocolHandler(tcp.ProtocolNumber, func(id stack.TransportEndpointID, pkt *stack.PacketBuffer) bool {
		return t.handle(ctx, id, pkt)
	})
	return t
}

func (t *tcpFlows) close() {
	if t.kernel != nil {
		t.kernel.close()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	for _, c := range t.dialed {
		c.Close()
	}
	for r := range t.open {
		r.abort()
	}
}

// handle sees every segment that belongs to no connection of the stack. It
// takes SYNs; the stack answers all others with a reset.
func (t *tcpFlows) handle(ctx context.Context, tid stack.TransportEndpointID, pkt *stack.PacketBuffer) bool {
	h := header.TCP(pkt.TransportHeader().Slice())
	if len(h) < header.TCPMinimumSize || h.Flags()&(header.TCPFlagSyn|header.TCPFlagAck|header.TCPFlagRst) != header.TCPFlagSyn {
		return false
	}
	id := flowOf(tid)
	syn := copyPacket(pkt)
	target, ok := t.policy.target(id.container.Addr(), id.remote.Addr())
	if !ok {
		t.send(unreachableFor(id, prohibited, syn.bytes))
		return true
	}
	if !t.beginDial(id) {
		return true // a repeated SYN, or too many: the container tries again
	}
	kept := pkt.Clone()
	t.tasks.Go(func() {
		defer kept.DecRef()
		t.dial(ctx, tid, kept, syn, netip.AddrPortFrom(target, id.remote.Port()))
	})
	return true
}

func (t *tcpFlows) beginDial(id flowID) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, dialing := t.dialing[id]
	_, dialed := t.dialed[id]
	if dialing || dialed || t.closed || len(t.dialing) >= maxDials || len(t.open)+len(t.dialed) >= maxTCPFlows {
		return false
	}
	t.dialing[id] = struct{}{}
	return true
}

// dial lets the host decide about a SYN: only a connection that is there
// completes the container's handshake.
func (t *tcpFlows) dial(ctx context.Context, tid stack.TransportEndpointID, pkt *stack.PacketBuffer, syn packet, target netip.AddrPort) {
	id := flowOf(tid)
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	conn, err := t.dialer.DialContext(ctx, "tcp", target.String())
	if err == nil {
		settle(conn.(*net.TCPConn), t.congestion)
	}
	t.mu.Lock()
	delete(t.dialing, id)
	closed := t.closed
	if err == nil && !closed {
		t.dialed[id] = conn.(*net.TCPConn)
	}
	t.mu.Unlock()
	switch {
	case err != nil && !closed:
		t.refuse(id, pkt, syn, err)
	case err == nil && closed:
		conn.Close()
	case err == nil:
		t.expireDialed(id, conn.(*net.TCPConn))
		if t.kernel != nil && !t.cfg.Bridge.Owns(id.container.Addr()) {
			t.send(withChecksum(syn))
		} else {
			t.forwarder.HandlePacket(tid, pkt)
		}
	}
}

// expireDialed drops a connection that the container does not take up.
func (t *tcpFlows) expireDialed(id flowID, conn *net.TCPConn) {
	time.AfterFunc(acceptTimeout, func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if t.dialed[id] == conn {
			delete(t.dialed, id)
			abortTCP(conn)
		}
	})
}

// takeDialed hands out the host's side of a connection, once.
func (t *tcpFlows) takeDialed(id flowID) *net.TCPConn {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.dialed[id]
	delete(t.dialed, id)
	return c
}

// refuse passes the host's answer to a SYN on to the container. A dial that
// timed out is answered as on any network: not at all.
func (t *tcpFlows) refuse(id flowID, pkt *stack.PacketBuffer, syn packet, err error) {
	t.log.Debug("the host refused a container's connection", "remote", id.remote, "container", id.container, "error", err)
	if errors.Is(err, unix.ECONNREFUSED) || errors.Is(err, unix.ECONNRESET) {
		t.send(resetFor(id, header.TCP(pkt.TransportHeader().Slice()).SequenceNumber()))
		return
	}
	if why, ok := refusalFor(err); ok {
		t.send(unreachableFor(id, why, syn.bytes))
	}
}

// refusalFor maps a socket's error to what a router would have said.
func refusalFor(err error) (refusal, bool) {
	switch {
	case errors.Is(err, unix.ECONNREFUSED):
		return portUnreachable, true
	case errors.Is(err, unix.ENETUNREACH), errors.Is(err, unix.EADDRNOTAVAIL), errors.Is(err, unix.EAFNOSUPPORT), errors.Is(err, unix.ENETDOWN):
		return netUnreachable, true
	case errors.Is(err, unix.EHOSTUNREACH), errors.Is(err, unix.EHOSTDOWN):
		return hostUnreachable, true
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return prohibited, true
	case os.IsTimeout(err), errors.Is(err, context.Canceled):
		return 0, false
	default: // out of descriptors or ports
		return hostUnreachable, true
	}
}

// completeInStack finishes the container's handshake in the stack.
func (t *tcpFlows) completeInStack(r *tcp.ForwarderRequest) {
	host := t.takeDialed(flowOf(r.ID()))
	if host == nil {
		r.Complete(true)
		return
	}
	var wq waiter.Queue
	ep, err := r.CreateEndpoint(&wq)
	r.Complete(err != nil)
	if err != nil {
		abortTCP(host)
		return
	}
	ep.SocketOptions().SetKeepAlive(true)
	idle := tcpip.KeepaliveIdleOption(keepAliveIdle)
	if err := ep.SetSockOpt(&idle); err != nil {
		t.log.Debug("cannot set keep-alive", "error", err.String())
	}
	t.carry(newStackRelay(gonet.NewTCPConn(&wq, ep), ep, host))
}

// carry runs a connection's relay to its end, unless the network is closing.
func (t *tcpFlows) carry(r *relay) {
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		r.abort()
		return
	}
	t.open[r] = struct{}{}
	t.tasks.Add(1)
	t.mu.Unlock()
	go func() {
		defer t.tasks.Done()
		r.run()
		t.mu.Lock()
		delete(t.open, r)
		t.mu.Unlock()
	}()
}
