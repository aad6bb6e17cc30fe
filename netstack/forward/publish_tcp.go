package forward

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"github.com/kelp-engine/kelp/netstack/link"
	"golang.org/x/sys/unix"
)

const (
	// maxInbound bounds the open connections of one published port. Each
	// client has a share.
	maxInbound = 16384
	// inboundTimeout is how long a container may take to accept.
	inboundTimeout = 30 * time.Second
)

// publishedTCP is one listening port of the host.
type publishedTCP struct {
	to   Resolve
	log  *slog.Logger
	host netip.AddrPort
	// congestion is the host's algorithm of TCP.
	congestion string
	acceptor   *acceptor
	open       connections
}

func publishTCP(host netip.AddrPort, to Resolve, log *slog.Logger) (io.Closer, netip.AddrPort, error) {
	lc := listenConfig()
	l, err := lc.Listen(context.Background(), network("tcp", host.Addr()), host.String())
	if err != nil {
		return nil, netip.AddrPort{}, bindError(host, err)
	}
	p := &publishedTCP{to: to, log: log, open: newConnections(maxInbound, log), congestion: hostCongestion(), host: unmapped(l.Addr().(*net.TCPAddr).AddrPort())}
	if p.acceptor, err = startAcceptor(l.(*net.TCPListener), p.accept, log); err != nil {
		return nil, netip.AddrPort{}, bindError(host, err)
	}
	return p, p.host, nil
}

// Close stops listening and breaks the open connections.
func (p *publishedTCP) Close() error {
	p.acceptor.close()
	p.open.close()
	return nil
}

func (p *publishedTCP) accept(at *pump, client int, from netip.AddrPort) {
	at.spread(func(at *pump) { p.serve(at, client, from) })
}

// serve carries one client's connection.
func (p *publishedTCP) serve(at *pump, client int, from netip.AddrPort) {
	settle(client, from, p.congestion)
	inner, err := p.connect(at.visitor, from)
	if err != nil {
		p.log.Debug("cannot reach a published port's container", "port", p.host, "error", err)
		resetSocket(client)
		return
	}
	f := at.startFlow(inner, client, inboundTimeout, func(f *flow) { p.open.remove(f) })
	if !p.open.add(f, from.Addr()) {
		f.ended = func() {}
		f.reset()
		return
	}
	f.begin()
}

// connect begins to connect to the container in the client's name.
func (p *publishedTCP) connect(v *link.Visitor, client netip.AddrPort) (fd int, err error) {
	t, err := p.to()
	if err != nil {
		return -1, err
	}
	local := t.clientAs(client)
	fd, err = v.ConnectTCP(t.Bridge.Namespace, local, t.Container)
	if local.Foreign && (errors.Is(err, unix.EADDRINUSE) || errors.Is(err, unix.EADDRNOTAVAIL)) {
		// The client uses one port for two of the host's ports that lead here.
		local.Addr = netip.AddrPortFrom(local.Addr.Addr(), 0)
		fd, err = v.ConnectTCP(t.Bridge.Namespace, local, t.Container)
	}
	return fd, err
}
