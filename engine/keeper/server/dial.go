package server

import (
	"context"
	"errors"
	"syscall"

	"github.com/kelp-engine/kelp/engine/fault"
	"github.com/kelp-engine/kelp/engine/keeper"
	"github.com/kelp-engine/kelp/netstack/link"
)

// dialNetwork connects to an address of a network, and hands out the socket.
func (n *bridges) dialNetwork(ctx context.Context, c *call) (any, error) {
	var r keeper.DialRequest
	if err := c.decode(&r); err != nil {
		return nil, err
	}
	w, err := n.use(r.NetworkID)
	if err != nil {
		return nil, err
	}
	defer n.done(r.NetworkID)
	conn, err := w.Namespace().DialTCP(ctx, link.Local{}, r.To)
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
