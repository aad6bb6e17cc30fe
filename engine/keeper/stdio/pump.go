package stdio

import (
	"errors"
	"io"
	"log/slog"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/kelp-engine/kelp/engine/logs/entry"
)

// chunk is how much output is read at once: what a pipe holds.
const chunk = 64 << 10

// buffers are shared by all streams: one is held only while there is output.
var buffers = sync.Pool{New: func() any { b := make([]byte, chunk); return &b }}

// pump reads one stream until it ends.
func (h *Hub) pump(source *os.File, s entry.Stream) {
	raw, err := source.SyscallConn()
	if err != nil {
		slog.Error("cannot read a container's output", "error", err)
		return
	}
	for {
		b, n, err := readReady(raw)
		if n > 0 {
			h.give(s, (*b)[:n])
		}
		if b != nil {
			buffers.Put(b)
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			h.drain(raw, s)
			return
		}
		if err != nil {
			return
		}
	}
}

// readReady waits for output without holding a buffer and then reads some.
func readReady(raw syscall.RawConn) (b *[]byte, n int, err error) {
	waited := raw.Read(func(fd uintptr) bool {
		b = buffers.Get().(*[]byte)
		n, err = readOnce(int(fd), *b)
		if errors.Is(err, unix.EAGAIN) {
			buffers.Put(b)
			b = nil
			return false
		}
		return true
	})
	if waited != nil {
		return b, 0, waited
	}
	return b, n, err
}

// drain reads what has been written already and does not wait for more.
func (h *Hub) drain(raw syscall.RawConn, s entry.Stream) {
	b := buffers.Get().(*[]byte)
	defer buffers.Put(b)
	for {
		n, err := 0, error(nil)
		if cerr := raw.Control(func(fd uintptr) { n, err = readOnce(int(fd), *b) }); cerr != nil || err != nil {
			return
		}
		h.give(s, (*b)[:n])
	}
}

// readOnce reads from a file that does not block. The end is io.EOF: for the
// master of a terminal EIO says that nobody holds its other side.
func readOnce(fd int, b []byte) (int, error) {
	for {
		n, err := unix.Read(fd, b)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EIO):
			return 0, io.EOF
		case err != nil:
			return 0, err
		case n == 0:
			return 0, io.EOF
		}
		return n, nil
	}
}
