package server

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"syscall"

	"github.com/kelp-engine/kelp/engine/fault"
	"github.com/kelp-engine/kelp/engine/keeper"
	"github.com/kelp-engine/kelp/netstack/link"
)

// fileConn is a connection whose socket can be handed out.
type fileConn interface {
	net.Conn
	File() (*os.File, error)
}

// dialTCP connects to an address of a network, and hands out the socket.
func (n *bridges) dialTCP(ctx context.Context, c *call) (any, error) {
	return n.dial(c, func(ns *link.Namespace, to netip.AddrPort) (fileConn, error) {
		return ns.DialTCP(ctx, link.Local{}, to)
	})
}

// dialUDP is dialTCP for datagrams.
func (n *bridges) dialUDP(_ context.Context, c *call) (any, error) {
	return n.dial(c, func(ns *link.Namespace, to netip.AddrPort) (fileConn, error) { return ns.DialUDP(link.Local{}, to) })
}

func (n *bridges) dial(c *call, connect func(*link.Namespace, netip.AddrPort) (fileConn, error)) (any, error) {
	var r keeper.DialRequest
	if err := c.decode(&r); err != nil {
		return nil, err
	}
	w, err := n.use(r.NetworkID)
	if err != nil {
		return nil, err
	}
	defer n.done(r.NetworkID)
	conn, err := connect(w.Namespace(), r.To)
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		return keeper.DialAnswer{Errno: errno}, nil
	}
	if err != nil {
		return nil, fault.Unavailable("%w", err)
	}
	defer conn.Close()
	f, err := conn.File()
	if err != nil {
		return nil, fault.Internal("%w", err)
	}
	c.reply = append(c.reply, f)
	return keeper.DialAnswer{}, nil
}
