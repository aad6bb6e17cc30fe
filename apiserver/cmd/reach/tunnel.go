package reach

import (
	"bufio"
	"context"
	"io"
	"net"
	"sync"
)

// closeWriter is a connection of which one direction can end before the other.
type closeWriter interface {
	net.Conn
	CloseWrite() error
}

// tunnel joins two connections until both directions have ended, one breaks,
// or ctx ends, and closes them.
func tunnel(ctx context.Context, client closeWriter, target net.Conn) {
	end := func() { client.Close(); target.Close() }
	defer end()
	defer context.AfterFunc(ctx, end)()
	var ways sync.WaitGroup
	oneWay := func(to, from net.Conn) {
		if _, err := io.Copy(to, from); err != nil {
			end()
			return
		}
		if c, ok := to.(closeWriter); !ok || c.CloseWrite() != nil {
			end()
		}
	}
	ways.Go(func() { oneWay(target, client) })
	oneWay(client, target)
	ways.Wait()
}

// peekedConn is a connection whose first bytes were looked at.
type peekedConn struct {
	net.Conn
	r      *bufio.Reader
	closed func() // called once
}

// Read implements net.Conn.
func (c *peekedConn) Read(b []byte) (int, error) { return c.r.Read(b) }

// Close implements net.Conn.
func (c *peekedConn) Close() error {
	c.closed()
	return c.Conn.Close()
}

// CloseWrite ends one direction.
func (c *peekedConn) CloseWrite() error {
	if w, ok := c.Conn.(closeWriter); ok {
		return w.CloseWrite()
	}
	return net.ErrClosed
}

// readFrom is a connection that another reader has read ahead from.
type readFrom struct {
	*peekedConn
	ahead io.Reader
}

// Read implements net.Conn.
func (r readFrom) Read(b []byte) (int, error) { return r.ahead.Read(b) }

// handedOver is a listener for connections that were accepted elsewhere.
type handedOver struct {
	conns   chan net.Conn
	ctxDone <-chan struct{}
	addr    net.Addr
}

func (h *handedOver) give(c net.Conn) {
	select {
	case h.conns <- c:
	case <-h.ctxDone:
		c.Close()
	}
}

// Accept implements net.Listener.
func (h *handedOver) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.ctxDone:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener. The connections' own listener is closed by
// its owner.
func (h *handedOver) Close() error { return nil }

// Addr implements net.Listener.
func (h *handedOver) Addr() net.Addr { return h.addr }
