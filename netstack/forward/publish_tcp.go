package forward

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// maxInbound bounds the open connections of one published port.
	maxInbound = 16384
	// inboundDialTimeout is how long a container may take to accept.
	inboundDialTimeout = 30 * time.Second
)

// publishedTCP is one listening port of the host.
type publishedTCP struct {
	target   Target
	listener *net.TCPListener
	cancel   context.CancelFunc
	tasks    sync.WaitGroup
	slots    chan struct{}

	mu   sync.Mutex
	open map[*relay]struct{}
}

func publishTCP(host netip.AddrPort, t Target) (io.Closer, netip.AddrPort, error) {
	lc := listenConfig(network("tcp", host.Addr()))
	l, err := lc.Listen(context.Background(), network("tcp", host.Addr()), host.String())
	if err != nil {
		return nil, netip.AddrPort{}, bindError(host, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	p := &publishedTCP{
		target:   t,
		listener: l.(*net.TCPListener),
		cancel:   cancel,
		slots:    make(chan struct{}, maxInbound),
		open:     map[*relay]struct{}{},
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
			pauseAfter(ctx, err, p.target.Log)
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
	inner, err := p.target.dialTCP(ctx, unmapped(client.RemoteAddr().(*net.TCPAddr).AddrPort()))
	if err != nil {
		p.target.Log.Debug("cannot reach a published port's container", "target", p.target.Container, "error", err)
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

// dialTCP connects to the container in the client's name.
func (t Target) dialTCP(ctx context.Context, client netip.AddrPort) (*net.TCPConn, error) {
	local, foreign := t.clientAs(client)
	conn, err := t.dialTCPAs(ctx, local, foreign)
	if foreign && (errors.Is(err, unix.EADDRINUSE) || errors.Is(err, unix.EADDRNOTAVAIL)) {
		// The client uses one port for two of the host's ports that lead here.
		conn, err = t.dialTCPAs(ctx, netip.AddrPortFrom(local.Addr(), 0), foreign)
	}
	return conn, err
}

func (t Target) dialTCPAs(ctx context.Context, local netip.AddrPort, foreign bool) (*net.TCPConn, error) {
	fd, err := t.Bridge.Socket(family(t.Container.Addr()), unix.SOCK_STREAM, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "tcp")
	defer f.Close() // FileConn keeps a copy
	if foreign {
		if err := bindForeign(fd, local); err != nil {
			return nil, err
		}
	} else if local.IsValid() && !local.Addr().IsUnspecified() {
		if err := unix.Bind(fd, sockaddr(local)); err != nil {
			return nil, fmt.Errorf("cannot bind %s: %w", local, err)
		}
	}
	if err := unix.Connect(fd, sockaddr(t.Container)); err != nil && err != unix.EINPROGRESS {
		return nil, os.NewSyscallError("connect", err)
	}
	c, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	conn := c.(*net.TCPConn)
	if err := awaitConnect(ctx, conn); err != nil {
		conn.Close()
		return nil, err
	}
	_ = conn.SetNoDelay(true)
	return conn, nil
}

// awaitConnect waits until the handshake of conn has ended.
func awaitConnect(ctx context.Context, conn *net.TCPConn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	if err := conn.SetWriteDeadline(time.Now().Add(inboundDialTimeout)); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetWriteDeadline(time.Unix(1, 0)) })
	defer stop()
	var failed error
	err = raw.Write(func(fd uintptr) bool {
		code, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR)
		switch {
		case err != nil:
			failed = err
		case code != 0:
			failed = os.NewSyscallError("connect", unix.Errno(code))
		default:
			_, err := unix.Getpeername(int(fd))
			return err == nil // else the handshake goes on
		}
		return true
	})
	if err := errors.Join(err, failed); err != nil {
		return err
	}
	return conn.SetWriteDeadline(time.Time{})
}
