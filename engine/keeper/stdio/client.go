package stdio

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kelp-engine/kelp/engine/fault"
	"github.com/kelp-engine/kelp/engine/logs/entry"
)

// ClientOptions say what a client is attached to.
type ClientOptions struct {
	Stdin, Stdout, Stderr bool
	Mux                   bool   // frame output as Docker's multiplexed stream
	DetachKeys            []byte // end the attachment when typed at a terminal
	Buffered              []byte // input that was read ahead
}

// streamConn is what kelp's clients are connected by: a unix or TCP socket.
type streamConn interface {
	net.Conn
	syscall.Conn
	CloseRead() error
	CloseWrite() error
}

// Client is a connection that is attached to a process.
type Client struct {
	o    ClientOptions
	conn streamConn
	done chan struct{}
	// watched closes when nobody waits any more for the peer to go before
	// the process starts.
	watched chan struct{}

	wmu    sync.Mutex // one frame at a time
	header [8]byte

	mu       sync.Mutex
	ended    bool
	detached bool
}

// NewClient takes conn over: it is closed on error, too.
func NewClient(conn *os.File, o ClientOptions) (*Client, error) {
	defer conn.Close()
	c, err := net.FileConn(conn)
	if err != nil {
		return nil, fault.InvalidArgument("cannot attach: %w", err)
	}
	stream, ok := c.(streamConn)
	if !ok {
		c.Close()
		return nil, fault.InvalidArgument("cannot attach a %s connection", c.LocalAddr().Network())
	}
	client := &Client{o: o, conn: stream, done: make(chan struct{}), watched: make(chan struct{})}
	go client.watchGone()
	return client, nil
}

// Done closes when the attachment is over.
func (c *Client) Done() <-chan struct{} { return c.done }

// Detached says whether the attachment ended before the process's output:
// by the detach keys or the client's leaving.
//
// Preconditions: Done is closed.
func (c *Client) Detached() bool { return c.detached }

// left says whether the attachment is over.
func (c *Client) left() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ended
}

// Leave ends an attachment that waits for a process to start.
func (c *Client) Leave() { c.end(true) }

// watchGone ends the attachment when the peer goes, until start.
func (c *Client) watchGone() {
	defer close(c.watched)
	if c.hungUp() {
		c.end(true)
	}
}

// hungUp waits until the peer has closed its connection altogether. It is
// false when the wait was broken off.
func (c *Client) hungUp() bool {
	raw, err := c.conn.SyscallConn()
	if err != nil {
		return false
	}
	gone := false
	err = raw.Read(func(fd uintptr) bool {
		poll := []unix.PollFd{{Fd: int32(fd)}} // POLLHUP and POLLERR need no asking
		n, _ := unix.Poll(poll, 0)
		gone = n > 0
		return gone
	})
	return gone && err == nil
}

// start begins to copy input to h's process.
func (c *Client) start(h *Hub) {
	_ = c.conn.SetReadDeadline(time.Unix(1, 0)) // ends watchGone
	go func() {
		<-c.watched
		_ = c.conn.SetReadDeadline(time.Time{})
		if c.o.Stdin && h.input() != nil {
			if c.copyInput(h) {
				h.drop(c, true)
				return
			}
		}
		if c.hungUp() {
			h.drop(c, true)
		}
	}()
}

// copyInput copies until the client's input ends. It says whether the
// attachment is over with it.
func (c *Client) copyInput(h *Hub) (over bool) {
	err := c.feed(h)
	if errors.Is(err, errDetach) {
		return true
	}
	if h.o.StdinOnce && !h.o.TTY {
		h.closeStdin()
		return false
	}
	// As dockerd does: input that stays open for others, or a terminal's, ends
	// the attachment of the client that ends it.
	return !errors.Is(err, errInputClosed)
}

var (
	errDetach      = errors.New("detach keys")
	errInputClosed = errors.New("the process reads no more input")
)

// feed writes the client's input to the process until it ends.
func (c *Client) feed(h *Hub) error {
	if h.o.TTY {
		return c.feedTerminal(h)
	}
	stdin := h.input()
	if _, err := stdin.Write(c.o.Buffered); err != nil {
		return errInputClosed
	}
	// Not io.Copy alone: for splice it would keep pipes open for the next copy.
	b := buffers.get()
	defer buffers.put(b)
	_, err := io.CopyBuffer(struct{ io.Writer }{stdin}, struct{ io.Reader }{c.conn}, *b)
	if errors.Is(err, unix.EPIPE) || errors.Is(err, os.ErrClosed) {
		return errInputClosed
	}
	return err
}

// feedTerminal is feed with a look out for the detach keys.
func (c *Client) feedTerminal(h *Hub) error {
	terminal := h.input()
	keys := detacher{keys: c.o.DetachKeys}
	write := func(p []byte) error {
		out, detach := keys.filter(p)
		if _, err := terminal.Write(out); err != nil {
			return errInputClosed
		}
		if detach {
			return errDetach
		}
		return nil
	}
	if err := write(c.o.Buffered); err != nil {
		return err
	}
	b := make([]byte, 4<<10)
	for {
		n, err := c.conn.Read(b)
		if n > 0 {
			if err := write(b[:n]); err != nil {
				return err
			}
		}
		if err != nil {
			return err
		}
	}
}

// write sends output to the client.
func (c *Client) write(s entry.Stream, p []byte) error {
	if (s == entry.Stdout && !c.o.Stdout) || (s == entry.Stderr && !c.o.Stderr) {
		return nil
	}
	c.wmu.Lock()
	defer c.wmu.Unlock()
	if !c.o.Mux {
		_, err := c.conn.Write(p)
		return err
	}
	c.header[0] = byte(s)
	binary.BigEndian.PutUint32(c.header[4:], uint32(len(p)))
	frame := net.Buffers{c.header[:], p}
	_, err := frame.WriteTo(c.conn)
	return err
}

// end closes the connection, once.
func (c *Client) end(detached bool) {
	if !c.claimEnd(detached) {
		return
	}
	_ = c.conn.CloseWrite()
	// Input that nobody read would make the peer see a reset connection
	// instead of the end of the output.
	_ = c.conn.CloseRead()
	discardInput(c.conn)
	c.conn.Close()
	close(c.done)
}

// Release ends the attachment but leaves the connection to others that hold
// it.
func (c *Client) Release() {
	if !c.claimEnd(false) {
		return
	}
	c.conn.Close()
	close(c.done)
}

func (c *Client) claimEnd(detached bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return false
	}
	c.ended, c.detached = true, detached
	return true
}

// discardInput reads what lies in a socket that takes no more.
func discardInput(conn syscall.Conn) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return
	}
	b := buffers.get()
	defer buffers.put(b)
	_ = raw.Control(func(fd uintptr) {
		for {
			if n, err := unix.Read(int(fd), *b); n <= 0 || err != nil {
				return
			}
		}
	})
}
