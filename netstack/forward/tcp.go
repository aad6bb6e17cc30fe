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
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"
)

const (
	// maxDials bounds a network's connections that are being made,
	// maxTCPFlows those that are open. Each container has a share of both.
	maxDials    = 4096
	maxTCPFlows = 16384
	// maxStackBuffer bounds each of the two buffers of a connection in the stack.
	maxStackBuffer = 2 << 20
	// dialTimeout ends a dial that nobody answers; the container has given up
	// by then or sends a new SYN.
	dialTimeout = 75 * time.Second
	// acceptTimeout ends a handshake that the container does not complete.
	acceptTimeout = 5 * time.Second

	keepAliveIdle     = 2 * time.Minute
	keepAliveInterval = 30 * time.Second
	keepAliveCount    = 8
)

// tcpFlows are a network's outgoing TCP connections.
type tcpFlows struct {
	*core
	forwarder *tcp.Forwarder
	pumps     []*pump
	kernel    *interceptor // nil when the stack carries all connections, not only those of the bridge's own namespace

	// open are the connections that carry data.
	open connections

	mu     sync.Mutex
	closed bool
	// pending is each container's share of what is being made.
	pending *quota[netip.Addr]
	// dialing are handshakes of which the host has not decided yet.
	dialing map[flowID]*hostDial
	// dialed are connections to the host whose handshake with the container
	// is under way; while there are any, expiring says that they are watched.
	dialed   map[flowID]dialedSocket
	expiring bool
}

type dialedSocket struct {
	fd    int
	since int64
}

func newTCPFlows(ctx context.Context, c *core) (*tcpFlows, error) {
	all, err := pumps()
	if err != nil {
		return nil, err
	}
	t := &tcpFlows{
		core: c, pumps: all, dialing: map[flowID]*hostDial{}, dialed: map[flowID]dialedSocket{},
		open: newConnections(maxTCPFlows, c.log), pending: newQuota[netip.Addr](maxDials),
	}
	t.forwarder = tcp.NewForwarder(c.stack, 0, maxDials, t.completeInStack)
	if !c.cfg.StackOnly && c.cfg.Bridge.Transparent {
		if t.kernel, err = t.newInterceptor(ctx); err != nil {
			c.log.Warn("connections of a network stay in the network stack, which is slower", "error", err)
		}
	}
	c.stack.SetTransportProtocolHandler(tcp.ProtocolNumber, func(id stack.TransportEndpointID, pkt *stack.PacketBuffer) bool {
		return t.handle(id, pkt)
	})
	return t, nil
}

func (t *tcpFlows) close() {
	if t.kernel != nil {
		t.kernel.close()
	}
	t.mu.Lock()
	t.closed = true
	for id, d := range t.dialed {
		resetSocket(d.fd)
		t.forgetDialed(id)
	}
	for _, d := range t.dialing {
		d.abort()
	}
	t.mu.Unlock()
	t.open.close()
}

// handle sees every segment that belongs to no connection of the stack. It
// takes SYNs; the stack answers all others with a reset.
func (t *tcpFlows) handle(tid stack.TransportEndpointID, pkt *stack.PacketBuffer) bool {
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
	d := &hostDial{flows: t, id: id, tid: tid, syn: syn, pump: quietest(t.pumps, nil), to: netip.AddrPortFrom(target, id.remote.Port())}
	begun, dialed := t.beginDial(d)
	switch {
	case begun:
		d.pkt = pkt.Clone()
		d.start()
	case dialed && t.inKernel(id):
		t.send(withChecksum(syn)) // the one before was lost on its way
	} // else a repeated SYN, or too many: the container tries again
	return true
}

// beginDial enters a dial unless there is one. dialed says that it has
// succeeded already.
func (t *tcpFlows) beginDial(d *hostDial) (begun, dialed bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, dialed = t.dialed[d.id]
	if t.dialing[d.id] != nil || dialed || t.closed || !t.begin(d.id.container.Addr()) {
		return false, dialed
	}
	t.dialing[d.id] = d
	t.tasks.Add(1)
	return true, false
}

// inKernel says whether kernel sockets carry a container's connection.
func (t *tcpFlows) inKernel(id flowID) bool {
	return t.kernel != nil && !t.cfg.Bridge.Owns(id.container.Addr())
}

// answer does with a SYN as the host has decided: only a connection that is
// there completes the container's handshake.
func (t *tcpFlows) answer(d *hostDial, err error) {
	defer t.tasks.Done()
	defer d.pkt.DecRef()
	t.mu.Lock()
	delete(t.dialing, d.id)
	closed := t.closed
	if err == nil && !closed {
		t.dialed[d.id] = dialedSocket{d.fd, now()}
		if !t.expiring {
			t.expiring = true
			time.AfterFunc(acceptTimeout, t.expireDialed)
		}
	} else {
		t.begun(d.id.container.Addr())
	}
	t.mu.Unlock()
	switch {
	case err != nil && !closed:
		t.refuse(d, err)
	case closed && err == nil:
		unix.Close(d.fd)
	case closed:
	case t.inKernel(d.id):
		t.send(withChecksum(d.syn))
	default:
		t.forwarder.HandlePacket(d.tid, d.pkt)
	}
}

// expireDialed drops connections that the container does not take up.
func (t *tcpFlows) expireDialed() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for id, d := range t.dialed {
		if time.Duration(now()-d.since) >= acceptTimeout {
			t.forgetDialed(id)
			resetSocket(d.fd)
		}
	}
	if t.expiring = len(t.dialed) > 0; t.expiring {
		time.AfterFunc(acceptTimeout/4, t.expireDialed)
	}
}

// takeDialed hands out the host's side of a connection, once.
func (t *tcpFlows) takeDialed(id flowID) (fd int, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	d, ok := t.dialed[id]
	if ok {
		t.forgetDialed(id)
	}
	return d.fd, ok
}

// forgetDialed ends the waiting for a container.
//
// Preconditions: t.mu is held; t.dialed has id.
func (t *tcpFlows) forgetDialed(id flowID) {
	delete(t.dialed, id)
	t.begun(id.container.Addr())
}

// begin says whether a container may begin one more connection. begun is
// called when that is open or has failed.
//
// Preconditions: t.mu is held.
func (t *tcpFlows) begin(who netip.Addr) bool {
	if !t.pending.take(who) {
		return false
	}
	if !descriptors.take(who, dialCost, t.log) {
		t.pending.give(who)
		return false
	}
	return true
}

func (t *tcpFlows) begun(who netip.Addr) {
	t.pending.give(who)
	descriptors.give(who, dialCost)
}

// refuse passes the host's answer to a SYN on to the container. A dial that
// timed out is answered as on any network: not at all.
func (t *tcpFlows) refuse(d *hostDial, err error) {
	t.log.Debug("the host refused a container's connection", "remote", d.id.remote, "container", d.id.container, "error", err)
	if errors.Is(err, unix.ECONNREFUSED) || errors.Is(err, unix.ECONNRESET) {
		t.send(resetFor(d.id, header.TCP(d.pkt.TransportHeader().Slice()).SequenceNumber()))
		return
	}
	warnOfPorts(t.log, err)
	if why, ok := refusalFor(err); ok {
		t.send(unreachableFor(d.id, why, d.syn.bytes))
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
	id := flowOf(r.ID())
	fd, ok := t.takeDialed(id)
	if !ok {
		r.Complete(true)
		return
	}
	host, err := tcpConn(fd)
	if err != nil {
		t.log.Warn("cannot carry a container's connection", "error", err)
		r.Complete(true)
		return
	}
	var wq waiter.Queue
	ep, terr := r.CreateEndpoint(&wq)
	r.Complete(terr != nil)
	if terr != nil {
		abortTCP(host)
		return
	}
	ep.SocketOptions().SetKeepAlive(true)
	idle := tcpip.KeepaliveIdleOption(keepAliveIdle)
	if err := ep.SetSockOpt(&idle); err != nil {
		t.log.Debug("cannot set keep-alive", "error", err.String())
	}
	t.carry(id.container.Addr(), newStackRelay(ep, &wq, host))
}

// carry runs a container's connection to its end, unless the network is
// closing or the container has too many.
func (t *tcpFlows) carry(who netip.Addr, r *relay) {
	if !t.open.add(r, who) {
		r.abort()
		return
	}
	go func() {
		defer t.open.remove(r)
		r.run()
	}()
}

// tcpConn takes a socket over.
func tcpConn(fd int) (*net.TCPConn, error) {
	f := os.NewFile(uintptr(fd), "socket")
	defer f.Close() // FileConn keeps a copy
	c, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	return c.(*net.TCPConn), nil
}
