// Package stdio connects a process's standard streams with its log and with
// the clients that are attached to it.
//
// Output is read whether or not anybody listens, so that a process without
// clients never blocks. It goes to the log first, then to each client in
// turn: nothing is dropped, and a client that reads slowly slows the process.
// The only buffers are the kernel's, and one per stream while it has output.
//
// It must not know containers, nor how processes are started.
package stdio

import (
	"errors"
	"log/slog"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kelp-engine/kelp/engine/fault"
	"github.com/kelp-engine/kelp/engine/logs/entry"
)

// Log keeps a process's output. Writes do not overlap.
type Log interface {
	// Write keeps what the process wrote at one time; p is the caller's
	// again when it returns. It has no error because nobody could act on it:
	// a log that cannot be written must not stop the process.
	Write(s entry.Stream, p []byte, at time.Time)
	Close() error
}

// grace is how long output may go on to come after its process has ended,
// from processes that it left behind.
const grace = 2 * time.Second

// Options of a Hub.
type Options struct {
	TTY       bool
	StdinOnce bool // standard input closes when the first client with it leaves
	// Hold keeps clients attached until Release, so that they find the exit
	// code known when their connection ends.
	Hold bool
	Log  Log // nil keeps nothing
}

// Hub is the standard streams of one run of a process.
type Hub struct {
	o     Options
	pumps sync.WaitGroup
	// drained closes when all output was read and given on, or given up.
	drained  chan struct{}
	released chan struct{} // closed by Release

	logMu sync.Mutex // the streams share the log

	mu       sync.Mutex
	sources  []*os.File // that output is read from
	stdin    *os.File   // nil when closed; the terminal itself with TTY
	terminal *os.File
	clients  []*Client // replaced, not changed: readers go without the lock
	ended    bool
}

// NewHub returns a hub whose process has not started yet.
func NewHub(o Options) *Hub {
	return &Hub{o: o, drained: make(chan struct{}), released: make(chan struct{})}
}

// Connect gives the hub the engine-side ends of the process's streams and
// begins to read output. Files not in use are nil; with TTY only terminal is.
func (h *Hub) Connect(stdin, stdout, stderr, terminal *os.File) {
	h.mu.Lock()
	h.stdin, h.terminal = stdin, terminal
	if h.o.TTY {
		h.stdin, stdout = terminal, terminal
	}
	for i, source := range []*os.File{stdout, stderr} {
		if source == nil {
			continue
		}
		h.sources = append(h.sources, source)
		h.pumps.Go(func() { h.pump(source, entry.Stdout+entry.Stream(i)) })
	}
	clients := h.clients
	h.mu.Unlock()
	for _, c := range clients {
		c.start(h)
	}
	go h.finish()
}

// Attach adds a client. One that comes after the process's end is ended.
func (h *Hub) Attach(c *Client) {
	h.mu.Lock()
	if h.ended {
		h.mu.Unlock()
		c.end(false)
		return
	}
	if c.left() { // while it waited for the process to start
		h.mu.Unlock()
		return
	}
	h.clients = append(h.clients[:len(h.clients):len(h.clients)], c)
	connected := h.sources != nil
	h.mu.Unlock()
	if connected {
		c.start(h)
	}
}

// drop ends a client before the process's output has.
func (h *Hub) drop(c *Client, detached bool) {
	h.mu.Lock()
	var rest []*Client
	for _, other := range h.clients {
		if other != c {
			rest = append(rest, other)
		}
	}
	h.clients = rest
	h.mu.Unlock()
	c.end(detached)
}

// Exited tells the hub that the process has ended, and waits until its output
// was given on: that still in a pipe whole, and what comes late for a short
// while. It waits no longer than that for clients that do not read; drained
// says that it did not have to give up.
func (h *Hub) Exited() (drained bool) {
	h.mu.Lock()
	for _, f := range h.sources {
		_ = f.SetReadDeadline(time.Now().Add(grace))
	}
	h.mu.Unlock()
	select {
	case <-h.drained:
		return true
	case <-time.After(grace + grace/4):
		return false
	}
}

// Drained closes when all output was given on, or given up.
func (h *Hub) Drained() <-chan struct{} { return h.drained }

// Abandon ends all clients, so that output which none of them reads cannot
// hold up the log, and waits for the rest to be written.
func (h *Hub) Abandon() {
	h.mu.Lock()
	clients := h.clients
	h.mu.Unlock()
	for _, c := range clients {
		h.drop(c, true)
	}
	<-h.drained
}

// Discard ends a hub whose process could not be started, and returns the
// clients that were to be attached to it.
func (h *Hub) Discard() []*Client {
	h.mu.Lock()
	h.ended = true
	clients := h.clients
	h.clients = nil
	h.mu.Unlock()
	if h.o.Log != nil {
		_ = h.o.Log.Close()
	}
	close(h.drained)
	return clients
}

// finish ends everything once all output has been read.
func (h *Hub) finish() {
	h.pumps.Wait()
	if h.o.Log != nil {
		if err := h.o.Log.Close(); err != nil {
			slog.Warn("cannot close a container's log", "error", err)
		}
	}
	h.closeStdin()
	for _, f := range h.sources {
		f.Close()
	}
	if !h.o.Hold {
		h.endClients()
	}
	close(h.drained)
	if h.o.Hold {
		<-h.released
		h.endClients()
	}
}

func (h *Hub) endClients() {
	h.mu.Lock()
	h.ended = true
	clients := h.clients
	h.clients = nil
	h.mu.Unlock()
	for _, c := range clients {
		c.end(false)
	}
}

// Release ends the clients that Hold keeps, once their output is whole.
func (h *Hub) Release() { close(h.released) }

// closeStdin ends the process's standard input.
func (h *Hub) closeStdin() {
	h.mu.Lock()
	f := h.stdin
	h.stdin = nil
	h.mu.Unlock()
	if f != nil && !h.o.TTY {
		f.Close()
	}
}

func (h *Hub) input() *os.File {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.stdin
}

// Resize sets the size of the process's terminal in characters.
func (h *Hub) Resize(height, width uint16) error {
	h.mu.Lock()
	terminal := h.terminal
	h.mu.Unlock()
	if terminal == nil {
		return fault.Conflict("the process has no terminal, or has not started")
	}
	raw, err := terminal.SyscallConn()
	if err != nil {
		return fault.Conflict("the process has ended")
	}
	cerr := raw.Control(func(fd uintptr) {
		err = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Row: height, Col: width})
	})
	return errors.Join(cerr, err)
}

// give hands output to the log and to every client.
func (h *Hub) give(s entry.Stream, p []byte) {
	if h.o.Log != nil {
		h.logMu.Lock()
		h.o.Log.Write(s, p, time.Now())
		h.logMu.Unlock()
	}
	h.mu.Lock()
	clients := h.clients
	h.mu.Unlock()
	for _, c := range clients {
		if err := c.write(s, p); err != nil {
			h.drop(c, true)
		}
	}
}
