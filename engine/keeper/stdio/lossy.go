package stdio

import (
	"bytes"
	"log/slog"
	"sync"
	"time"

	"github.com/kelp-engine/kelp/engine/logs/entry"
)

// cutter is a Log that can be told of a gap in the output.
type cutter interface{ Cut() }

// NewLossy returns a log that never holds up the process: what log cannot keep
// up with is kept in memory, at most size bytes of it, and beyond that dropped.
func NewLossy(log Log, size int64) Log {
	l := &lossy{log: log, max: size, done: make(chan struct{})}
	l.more.L = &l.mu
	go l.run()
	return l
}

type lossy struct {
	log  Log
	max  int64
	done chan struct{} // run has returned

	mu      sync.Mutex
	more    sync.Cond // the queue is no longer empty, or closed
	queue   []piece
	size    int64 // of the queue, in bytes
	dropped int64
	gap     bool // output was dropped behind the queue's last piece
	closed  bool
}

// piece is what came at one time.
type piece struct {
	stream entry.Stream
	text   []byte
	at     time.Time
	gap    bool // output was dropped before it
}

func (l *lossy) Write(s entry.Stream, p []byte, at time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.size+int64(len(p)) > l.max && len(l.queue) > 0 {
		l.dropped += int64(len(p))
		l.gap = true
		return
	}
	l.queue = append(l.queue, piece{s, bytes.Clone(p), at, l.gap})
	l.size += int64(len(p))
	l.gap = false
	l.more.Signal()
}

// run writes what is queued until the log is closed.
func (l *lossy) run() {
	defer close(l.done)
	for {
		p, ok := l.next()
		if !ok {
			return
		}
		if c, ok := l.log.(cutter); ok && p.gap {
			c.Cut()
		}
		l.log.Write(p.stream, p.text, p.at)
	}
}

func (l *lossy) next() (piece, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.queue) == 0 {
		if l.closed {
			return piece{}, false
		}
		l.more.Wait()
	}
	p := l.queue[0]
	l.queue = l.queue[1:]
	l.size -= int64(len(p.text))
	return p, true
}

// Close waits for the queue to be written.
func (l *lossy) Close() error {
	l.mu.Lock()
	l.closed = true
	l.more.Signal()
	dropped := l.dropped
	l.mu.Unlock()
	<-l.done
	if dropped > 0 {
		slog.Warn("a container's log could not keep up; output was dropped, as its log mode says", "bytes", dropped)
	}
	return l.log.Close()
}
