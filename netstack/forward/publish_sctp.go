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
	open     connections
}

// maxAssociations bounds the open associations of one published port. Each
// client has a share.
const maxAssociations = 1024

func publishSCTP(host netip.AddrPort, to Resolve, log *slog.Logger) (io.Closer, netip.AddrPort, error) {
	l, err := listenSCTP(host)
	if err != nil {
		return nil, netip.AddrPort{}, bindError(host, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	p := &publishedSCTP{to: to, log: log, listener: l, cancel: cancel, open: newConnections(maxAssociations, log)}
	p.tasks.Go(func() { p.accept(ctx) })
	return p, unmapped(l.Addr().(*net.TCPAddr).AddrPort()), nil
}

// Close stops listening and breaks the open associations.
func (p *publishedSCTP) Close() error {
	p.cancel()
	err := p.listener.Close()
	p.open.close()
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
			case <-time.After(acceptPause):
			}
			continue
		}
		a := &association{outer: client}
		if !p.open.add(a, unmapped(client.RemoteAddr().(*net.TCPAddr).AddrPort()).Addr()) {
			a.abort()
			continue
		}
		p.tasks.Go(func() {
			defer p.open.remove(a)
			if err := a.carry(ctx, p.to); err != nil {
				p.log.Debug("cannot reach a published port's container", "port", p.listener.Addr(), "error", err)
			}
		})
	}
}

// association joins a client's association with one to the container. There is
// no half of one: when either ends, so does the other.
type association struct{ outer *net.TCPConn }

// abort breaks the client's side; carry does the rest.
func (a *association) abort() { abortTCP(a.outer) }

// carry carries messages until either side ends, then ends both. The container
// sees the gateway: the kernel delivers no SCTP packets to sockets under
// foreign addresses.
func (a *association) carry(ctx context.Context, to Resolve) error {
	defer a.abort() // unless it has ended well
	t, err := to()
	if err != nil {
		return err
	}
	fromOuter, err := newMessages(a.outer)
	if err != nil {
		return err
	}
	if err := fromOuter.prepare(); err != nil {
		return err
	}
	inner, err := t.Bridge.DialSCTP(ctx, link.Local{Addr: netip.AddrPortFrom(t.Gateway, 0)}, t.Container)
	if err != nil {
		return err
	}
	defer abortTCP(inner)
	fromInner, err := newMessages(inner)
	if err != nil {
		return err
	}
	done := make(chan error, 2)
	go func() { done <- copyMessages(fromOuter, fromInner) }()
	go func() { done <- copyMessages(fromInner, fromOuter) }()
	if <-done != nil {
		abortTCP(inner)
		a.abort()
	}
	inner.Close() // what was sent is delivered
	a.outer.Close()
	<-done
	return nil
}
