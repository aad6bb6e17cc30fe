package forward

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/kelp-engine/kelp/netstack/link"
)

// publishedSCTP is one SCTP port of the host.
type publishedSCTP struct {
	to       Resolve
	log      *slog.Logger
	listener *net.TCPListener
	cancel   context.CancelFunc
	tasks    sync.WaitGroup

	mu   sync.Mutex
	open map[*association]struct{} // nil after Close
}

// maxAssociations bounds the open associations of one published port.
const maxAssociations = 1024

func publishSCTP(host netip.AddrPort, to Resolve, log *slog.Logger) (io.Closer, netip.AddrPort, error) {
	l, err := listenSCTP(host)
	if err != nil {
		return nil, netip.AddrPort{}, bindError(host, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	p := &publishedSCTP{to: to, log: log, listener: l, cancel: cancel, open: map[*association]struct{}{}}
	p.tasks.Go(func() { p.accept(ctx) })
	return p, unmapped(l.Addr().(*net.TCPAddr).AddrPort()), nil
}

// Close stops listening and breaks the open associations.
func (p *publishedSCTP) Close() error {
	p.cancel()
	err := p.listener.Close()
	p.mu.Lock()
	for r := range p.open {
		r.abort()
	}
	p.open = nil
	p.mu.Unlock()
	p.tasks.Wait()
	return err
}

func (p *publishedSCTP) accept(ctx context.Context) {
	for {
		client, err := p.listener.AcceptTCP()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			p.log.Warn("cannot accept an association", "error", err)
			select {
			case <-ctx.Done():
			case <-time.After(100 * time.Millisecond):
			}
			continue
		}
		p.tasks.Go(func() { p.serve(ctx, client) })
	}
}

// serve carries one client's association.
func (p *publishedSCTP) serve(ctx context.Context, client *net.TCPConn) {
	r, err := p.carry(ctx, client)
	if err != nil {
		p.log.Debug("cannot reach a published port's container", "port", p.listener.Addr(), "error", err)
		abortTCP(client)
		return
	}
	if !p.enter(r) {
		r.abort()
		return
	}
	r.run()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.open, r)
}

// enter notes an open association, unless there are too many or the port is
// closed.
func (p *publishedSCTP) enter(r *association) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.open == nil || len(p.open) >= maxAssociations {
		return false
	}
	p.open[r] = struct{}{}
	return true
}

// carry joins a client with the container, which sees the gateway: the kernel
// delivers no SCTP packets to sockets under foreign addresses.
func (p *publishedSCTP) carry(ctx context.Context, client *net.TCPConn) (*association, error) {
	t, err := p.to()
	if err != nil {
		return nil, err
	}
	outer, err := newMessages(client)
	if err != nil {
		return nil, err
	}
	if err := outer.prepare(); err != nil {
		return nil, err
	}
	conn, err := t.Bridge.DialSCTP(ctx, link.Local{Addr: netip.AddrPortFrom(t.Gateway, 0)}, t.Container)
	if err != nil {
		return nil, err
	}
	inner, err := newMessages(conn)
	if err != nil {
		conn.Close()
		return nil, err
	}
	return &association{inner: conn, outer: client, fromInner: inner, fromOuter: outer}, nil
}

// association joins a client's association with one to the container. There is
// no half of one: when either ends, so does the other.
type association struct {
	inner, outer         *net.TCPConn
	fromInner, fromOuter messages
}

// run carries messages until either side ends, then ends both.
func (a *association) run() {
	done := make(chan error, 2)
	go func() { done <- copyMessages(a.fromOuter, a.fromInner) }()
	go func() { done <- copyMessages(a.fromInner, a.fromOuter) }()
	if <-done != nil {
		a.abort()
	}
	a.inner.Close() // what was sent is delivered
	a.outer.Close()
	<-done
}

func (a *association) abort() {
	abortTCP(a.inner)
	abortTCP(a.outer)
}
