package forward

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"

	"golang.org/x/sys/unix"
)

// maxInbound bounds the open connections of one published port.
const maxInbound = 16384

// publishedTCP is one listening port of the host.
type publishedTCP struct {
	to       Resolve
	log      *slog.Logger
	listener *net.TCPListener
	cancel   context.CancelFunc
	tasks    sync.WaitGroup
	slots    chan struct{}
	// congestion is the host's algorithm of TCP.
	congestion string

	mu   sync.Mutex
	open map[*relay]struct{}
}

func publishTCP(host netip.AddrPort, to Resolve, log *slog.Logger) (io.Closer, netip.AddrPort, error) {
	lc := listenConfig(network("tcp", host.Addr()))
	l, err := lc.Listen(context.Background(), network("tcp", host.Addr()), host.String())
	if err != nil {
		return nil, netip.AddrPort{}, bindError(host, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	p := &publishedTCP{
		to:         to,
		log:        log,
		listener:   l.(*net.TCPListener),
		cancel:     cancel,
		slots:      make(chan struct{}, maxInbound),
		congestion: hostCongestion(),
		open:       map[*relay]struct{}{},
	}
	p.tasks.Go(func() { p.accept(ctx) })
	return p, unmapped(l.Addr().(*net.TCPAddr).AddrPort()), nil
}

// Close stops listening and breaks the open connections.
func (p *publishedTCP) Close() error {
	p.cancel()
	err := p.listener.Close()
	p.mu.Lock()
	for r := range p.open {
		r.abort()
	}
	p.mu.Unlock()
	p.tasks.Wait()
	return err
}

func (p *publishedTCP) accept(ctx context.Context) {
	for {
		client, err := p.listener.AcceptTCP()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			pauseAfter(ctx, err, p.log)
			continue
		}
		select {
		case p.slots <- struct{}{}:
			p.tasks.Go(func() {
				defer func() { <-p.slots }()
				p.serve(ctx, client)
			})
		default:
			abortTCP(client)
		}
	}
}

// serve carries one client's connection.
func (p *publishedTCP) serve(ctx context.Context, client *net.TCPConn) {
	settle(client, p.congestion)
	inner, err := p.dial(ctx, client)
	if err != nil {
		p.log.Debug("cannot reach a published port's container", "port", p.listener.Addr(), "error", err)
		abortTCP(client)
		return
	}
	r := newKernelRelay(inner, client)
	p.mu.Lock()
	p.open[r] = struct{}{}
	p.mu.Unlock()
	if ctx.Err() != nil {
		r.abort()
	}
	r.run()
	p.mu.Lock()
	delete(p.open, r)
	p.mu.Unlock()
}

func (p *publishedTCP) dial(ctx context.Context, client *net.TCPConn) (*net.TCPConn, error) {
	t, err := p.to()
	if err != nil {
		return nil, err
	}
	return t.dialTCP(ctx, unmapped(client.RemoteAddr().(*net.TCPAddr).AddrPort()))
}

// dialTCP connects to the container in the client's name.
func (t Target) dialTCP(ctx context.Context, client netip.AddrPort) (*net.TCPConn, error) {
	local := t.clientAs(client)
	conn, err := t.Bridge.DialTCP(ctx, local, t.Container)
	if local.Foreign && (errors.Is(err, unix.EADDRINUSE) || errors.Is(err, unix.EADDRNOTAVAIL)) {
		// The client uses one port for two of the host's ports that lead here.
		local.Addr = netip.AddrPortFrom(local.Addr.Addr(), 0)
		conn, err = t.Bridge.DialTCP(ctx, local, t.Container)
	}
	return conn, err
}
