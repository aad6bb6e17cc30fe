package forward

import (
	"net"
	"sync"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/waiter"
)

// relay joins a container's TCP connection, which ends in the stack, with one
// to a host, so that each end sees what the other does: data, half-close and
// reset. It is what flow is where the kernel cannot do it.
type relay struct {
	inner, outer side
	// toOuter and toInner copy one direction until its end (nil) or until
	// either connection breaks.
	toOuter, toInner func() error
	aborted          sync.Once
}

// side is one of the connections of a relay.
type side interface {
	CloseWrite() error
	Close() error
	// reset breaks the connection so that its far end notices at once.
	reset()
}

// newStackRelay joins a connection of the stack with a kernel socket.
func newStackRelay(ep tcpip.Endpoint, wq *waiter.Queue, outer *net.TCPConn) *relay {
	inner := gonet.NewTCPConn(wq, ep)
	return &relay{
		inner:   stackSide{inner, ep},
		outer:   kernelSide{outer},
		toOuter: func() error { return stackToHost(outer, ep, wq) },
		toInner: func() error { return hostToStack(inner, outer) },
	}
}

// run carries data until both directions have ended, then closes both
// connections.
func (r *relay) run() {
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.oneWay(r.toOuter, r.outer)
	}()
	r.oneWay(r.toInner, r.inner)
	<-done
	r.inner.Close()
	r.outer.Close()
}

func (r *relay) oneWay(copyAll func() error, to side) {
	if err := copyAll(); err != nil {
		r.abort()
		return
	}
	if err := to.CloseWrite(); err != nil {
		r.abort()
	}
}

// abort breaks both connections; run then returns.
func (r *relay) abort() {
	r.aborted.Do(func() {
		r.inner.reset()
		r.outer.reset()
	})
}

type kernelSide struct{ *net.TCPConn }

func (k kernelSide) reset() { abortTCP(k.TCPConn) }

// abortTCP closes a connection with a reset.
func abortTCP(c *net.TCPConn) {
	_ = c.SetLinger(0)
	_ = c.Close()
}

type stackSide struct {
	*gonet.TCPConn
	ep tcpip.Endpoint
}

func (s stackSide) reset() {
	s.ep.Abort()
	_ = s.TCPConn.Close()
}
