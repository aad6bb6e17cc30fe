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

const (
	// chunk is how much output is read at once: what a pipe holds.
	chunk = 64 << 10
	// much is how much a pipe is made to hold when its process was faster than
	// the keeper once: both wait less often for each other then.
	much = 512 << 10
)

// pool holds buffers that all streams share: one is held only while there is
// output.
type pool struct {
	size int
	free sync.Pool
}

var (
	buffers     = &pool{size: chunk}
	muchBuffers = &pool{size: much}
)

func (p *pool) get() *[]byte {
	if b, ok := p.free.Get().(*[]byte); ok {
		return b
	}
	b := make([]byte, p.size)
	return &b
}

func (p *pool) put(b *[]byte) { p.free.Put(b) }

// pump reads one stream until it ends.
func (h *Hub) pump(source *os.File, s entry.Stream) {
	raw, err := source.SyscallConn()
	if err != nil {
		slog.Error("cannot read a container's output", "error", err)
		return
	}
	from := buffers
	for {
		b, n, err := readReady(raw, from)
		if n > 0 {
			h.give(s, (*b)[:n])
		}
		if b != nil {
			from.put(b)
		}
		if n == chunk && from == buffers && enlarge(raw) {
			from = muchBuffers
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

// enlarge makes a pipe hold more. The kernel may refuse: what a user's pipes
// may hold is limited.
func enlarge(pipe syscall.RawConn) bool {
	var err error
	cerr := pipe.Control(func(fd uintptr) { _, err = unix.FcntlInt(fd, unix.F_SETPIPE_SZ, much) })
	return cerr == nil && err == nil
}

// readReady waits for output without holding a buffer and then reads some.
func readReady(raw syscall.RawConn, from *pool) (b *[]byte, n int, err error) {
	waited := raw.Read(func(fd uintptr) bool {
		b = from.get()
		n, err = readOnce(int(fd), *b)
		if errors.Is(err, unix.EAGAIN) {
			from.put(b)
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
	b := buffers.get()
	defer buffers.put(b)
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
