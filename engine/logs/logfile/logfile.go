// Package logfile writes container log files: it cuts output into entries,
// appends them to a file and rotates that. The keeper uses it; engine/logs
// reads what it wrote.
//
// A log that cannot be written must not stop a container: output is dropped
// then, which is said once, until writing works again.
package logfile

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/kelp-engine/kelp/engine/fault"
	"github.com/kelp-engine/kelp/engine/logs/entry"
)

// Options of a log.
type Options struct {
	Driver   string            // "json-file" or "local"
	Path     string            // rotated files are Path.1, Path.2.gz, …
	MaxSize  int64             // in bytes; 0 never rotates
	MaxFile  int               // files kept, Path included; below 2 only Path
	Compress bool              // rotated files, with gzip
	Attrs    map[string]string // of every entry
}

// retry is how long a log that could not be written is left alone.
const retry = time.Second

// flushAt is how many encoded bytes are written at once.
const flushAt = 256 << 10

// buffers hold encoded entries; a log has one only while it writes.
var buffers = sync.Pool{New: func() any { b := make([]byte, 0, flushAt+entry.MaxRecord/8); return &b }}

// Log is an open log file.
type Log struct {
	o    Options
	enc  entry.Encoder
	f    *os.File
	size int64
	rest [3]rest // by stream

	compressing sync.WaitGroup

	failed  time.Time // when writing failed last; zero while all is well
	dropped int64     // bytes of output since then
}

// rest is the beginning of a line whose end has not been read yet.
type rest struct {
	line []byte
	// since is when a line began of which pieces were written already.
	since time.Time
	cut   bool
}

// Open opens the log, which goes on where an earlier one ended.
func Open(o Options) (*Log, error) {
	l := &Log{o: o}
	switch o.Driver {
	case "json-file":
		l.enc = entry.NewJSON(o.Attrs)
	case "local":
		l.enc = entry.Local{}
	default:
		return nil, fault.InvalidArgument("unknown log driver %q", o.Driver)
	}
	removeHalfCompressed(o.Path)
	if err := l.open(); err != nil {
		return nil, fmt.Errorf("cannot open the container's log: %w", err)
	}
	return l, nil
}

// open opens the file at o.Path and mends a last line that a crash tore.
func (l *Log) open() error {
	f, err := os.OpenFile(l.o.Path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o640)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return err
	}
	l.f, l.size = f, info.Size()
	last := make([]byte, 1)
	if l.o.Driver == "json-file" && l.size > 0 {
		if _, err := f.ReadAt(last, l.size-1); err == nil && last[0] != '\n' {
			l.write([]byte{'\n'})
		}
	}
	return nil
}

// Write keeps what came from a stream at one time. A line's end may come with
// a later Write.
func (l *Log) Write(s entry.Stream, p []byte, at time.Time) {
	b := buffers.Get().(*[]byte)
	out := (*b)[:0]
	r := &l.rest[s]
	e := entry.Entry{Stream: s, Time: at}
	for len(p) > 0 {
		room := entry.MaxLine - len(r.line)
		n := bytes.IndexByte(p[:min(len(p), room)], '\n')
		switch {
		case n >= 0: // a line's end
			e.Line, e.Partial = r.take(p[:n]), false
			p = p[n+1:]
		case len(p) >= room: // a piece of a long line
			e.Line, e.Partial = r.take(p[:room]), true
			p = p[room:]
		default:
			r.line = append(r.line, p...)
			p = nil
			continue
		}
		e.Time = r.time(at, e.Partial)
		out = l.put(out, &e)
	}
	l.write(out)
	*b = out[:0]
	buffers.Put(b)
}

// take returns the kept beginning of a line followed by p.
func (r *rest) take(p []byte) []byte {
	if len(r.line) == 0 {
		return p
	}
	line := append(r.line, p...)
	r.line = nil
	return line
}

// time returns the time of an entry: all pieces of a line have the first's.
func (r *rest) time(at time.Time, partial bool) time.Time {
	if r.cut {
		at = r.since
	} else if partial {
		r.since = at
	}
	r.cut = partial
	return at
}

// put encodes an entry behind out, which is written when there is enough of
// it or the file is full.
func (l *Log) put(out []byte, e *entry.Entry) []byte {
	if full := l.o.MaxSize > 0 && l.size+int64(len(out)) >= l.o.MaxSize; full || len(out) >= flushAt {
		l.write(out)
		out = out[:0]
		if full && l.size >= l.o.MaxSize { // not when it could not be written
			l.rotate()
		}
	}
	return l.enc.Append(out, e)
}

// write appends to the file. What cannot be written is dropped whole, so that
// no torn entry stays in the middle.
func (l *Log) write(b []byte) {
	if len(b) == 0 {
		return
	}
	if !l.failed.IsZero() && time.Since(l.failed) < retry {
		l.dropped += int64(len(b))
		return
	}
	if l.f == nil {
		if err := l.open(); err != nil {
			l.fail(b, err)
			return
		}
	}
	n, err := l.f.Write(b)
	if err != nil {
		if n > 0 && l.f.Truncate(l.size) != nil {
			l.size += int64(n)
		}
		l.fail(b, err)
		return
	}
	l.size += int64(n)
	if !l.failed.IsZero() {
		slog.Warn("a container's log can be written again", "path", l.o.Path, "dropped_bytes", l.dropped)
		l.failed, l.dropped = time.Time{}, 0
	}
}

func (l *Log) fail(b []byte, err error) {
	if l.failed.IsZero() {
		slog.Error("cannot write a container's log; its output is dropped until that works again", "path", l.o.Path, "error", err)
	}
	l.failed = time.Now()
	l.dropped += int64(len(b))
}

// Cut ends lines whose end has not come: what is written next does not
// continue them.
func (l *Log) Cut() {
	var b []byte
	for s := range l.rest {
		if r := &l.rest[s]; len(r.line) > 0 {
			e := entry.Entry{Stream: entry.Stream(s), Line: r.line, Partial: true}
			e.Time = r.time(time.Now(), true)
			b = l.put(b, &e)
			*r = rest{}
		}
	}
	l.write(b)
}

// Close writes what has no line's end yet and closes the file.
func (l *Log) Close() error {
	l.Cut()
	l.compressing.Wait()
	if l.f == nil {
		return nil
	}
	return l.f.Close()
}

var _ io.Closer = (*Log)(nil)
