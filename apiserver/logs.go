package apiserver

import (
	"bytes"
	"context"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"

	"github.com/moby/moby/api/types"

	"github.com/kelp-engine/kelp/apiserver/stream"
	"github.com/kelp-engine/kelp/engine/attach"
	"github.com/kelp-engine/kelp/engine/container"
	"github.com/kelp-engine/kelp/engine/fault"
	"github.com/kelp-engine/kelp/engine/logs"
	"github.com/kelp-engine/kelp/engine/logs/entry"
)

var logRoutes = []route{
	{"GET", "/containers/{ref}/logs", (*Server).containerLogs},
}

// containerLogs serves GET /containers/{ref}/logs.
func (s *Server) containerLogs(_ context.Context, r *request) (response, error) {
	q, err := readLogQuery(r)
	if err != nil {
		return nil, err
	}
	c, err := s.engine.Containers.Find(r.ref())
	if err != nil {
		return nil, err
	}
	rec := c.Snapshot()
	if rec.State == container.Removing || rec.State == container.Dead {
		return nil, fault.Conflict("can not get logs from container which is dead or marked for removal")
	}
	log := s.engine.Containers.Log(c)
	if err := log.Readable(); err != nil {
		return nil, err
	}
	return responseFunc(func(w http.ResponseWriter, hr *http.Request) error {
		out := newLogWriter(w, !rec.Config.Tty)
		out.flush = http.NewResponseController(w).Flush
		out.times, out.details = q.Times, q.Attrs
		media := types.MediaTypeRawStream
		if out.mux && r.since("1.42") {
			media = types.MediaTypeMultiplexedStream
		}
		w.Header().Set("Content-Type", media)
		w.WriteHeader(http.StatusOK)
		ctx, cancel := context.WithCancel(hr.Context())
		defer cancel()
		if r.flag("follow") && rec.State.Running() {
			q.Ended = c.Ended(ctx)
			if err := out.flush(); err != nil { // the headers
				return errStarted{err}
			}
		}
		err := logs.Read(ctx, log, q, out)
		if err == nil {
			return nil
		}
		if ctx.Err() == nil && out.failed == nil {
			out.fail(err)
		}
		return errStarted{err}
	}), nil
}

// readLogQuery reads the parameters of a request for logs.
func readLogQuery(r *request) (q logs.Query, err error) {
	q = logs.Query{
		Stdout: r.flag("stdout"),
		Stderr: r.flag("stderr"),
		Times:  r.flag("timestamps"),
		Attrs:  r.flag("details"),
		Lines:  -1,
	}
	if !q.Stdout && !q.Stderr {
		return q, fault.InvalidArgument("Bad parameters: you must choose at least one stream")
	}
	if tail := r.query("tail"); tail != "" && tail != "all" {
		if q.Lines, err = r.int("tail", -1); err != nil {
			return q, fault.InvalidArgument("invalid value for \"tail\": %q is neither a number of lines nor 'all'", tail)
		}
	}
	if q.Since, err = r.time("since"); err != nil {
		return q, err
	}
	if r.query("until") != "0" { // which clients send for none
		q.Until, err = r.time("until")
	}
	return q, err
}

// pastLog is what was logged before a client attached.
type pastLog struct {
	log   logs.Log
	query logs.Query
}

func (s *Server) pastLog(id string, o attach.Options) (*pastLog, error) {
	c, err := s.engine.Containers.Find(id)
	if err != nil {
		return nil, err
	}
	p := &pastLog{log: s.engine.Containers.Log(c), query: logs.Query{Stdout: o.Stdout, Stderr: o.Stderr, Lines: -1}}
	return p, p.log.Readable()
}

// write writes the log; a nil one is empty.
func (p *pastLog) write(ctx context.Context, w io.Writer, mux bool) error {
	if p == nil {
		return nil
	}
	return logs.Read(ctx, p.log, p.query, newLogWriter(w, mux))
}

// logWriter writes entries of a log to a client, many at a time.
type logWriter struct {
	w              io.Writer
	flush          func() error // sends what w buffers
	mux            bool
	times, details bool
	buf            []byte
	frame          int                    // where in buf the last frame begins; -1 is none
	written        int                    // bytes since the last Flush
	bulk           bool                   // lines share frames
	inLine         [entry.Stderr + 1]bool // the stream's last entry was partial
	attrs          map[string]string      // those that details was made of
	prefix         []byte
	failed         error // of w
}

const (
	// logBuffer is how much is written to a client at once.
	logBuffer = 256 << 10
	// muchAtOnce is how much output comes between two waits before lines share
	// frames. Docker sends a frame for each line, which some clients count on;
	// but clients write each frame by itself, and so are many times slower.
	muchAtOnce = 64 << 10
	// maxFrame is what clients read at once.
	maxFrame = 32 << 10
)

func newLogWriter(w io.Writer, mux bool) *logWriter {
	return &logWriter{
		w: w, flush: func() error { return nil }, mux: mux,
		frame: -1, buf: make([]byte, 0, logBuffer+32<<10),
	}
}

// timeLayout has nine decimal places, so that lines align.
const timeLayout = "2006-01-02T15:04:05.000000000Z07:00"

// Entry implements logs.Sink.
func (l *logWriter) Entry(e *entry.Entry) error {
	start := len(l.buf)
	if l.mux {
		l.beginFrame(e)
	}
	if (l.times || l.details) && !l.inLine[e.Stream] {
		if l.times {
			l.buf = append(e.Time.UTC().AppendFormat(l.buf, timeLayout), ' ')
		}
		if l.details {
			l.buf = append(append(l.buf, l.detailsOf(e)...), ' ')
		}
	}
	l.inLine[e.Stream] = e.Partial
	l.buf = append(l.buf, e.Line...)
	if !e.Partial {
		l.buf = append(l.buf, '\n')
	}
	if l.mux {
		stream.PutHeader(l.buf[l.frame:], byte(e.Stream), len(l.buf)-l.frame-stream.HeaderSize)
	}
	if l.written += len(l.buf) - start; l.written > muchAtOnce {
		l.bulk = true
	}
	if len(l.buf) >= logBuffer {
		return l.send()
	}
	return nil
}

// beginFrame makes room for a header, unless e goes into the last frame.
func (l *logWriter) beginFrame(e *entry.Entry) {
	if l.bulk && l.frame >= 0 && l.buf[l.frame] == byte(e.Stream) && len(l.buf)-l.frame+len(e.Line) < maxFrame {
		return
	}
	l.frame = len(l.buf)
	l.buf = append(l.buf, "01234567"...) // overwritten by the header
}

// detailsOf returns an entry's attributes as Docker writes them: k=v, in
// order, percent-encoded.
func (l *logWriter) detailsOf(e *entry.Entry) []byte {
	if !maps.Equal(e.Attrs, l.attrs) {
		l.attrs, l.prefix = e.Attrs, nil
		for i, k := range slices.Sorted(maps.Keys(e.Attrs)) {
			if i > 0 {
				l.prefix = append(l.prefix, ',')
			}
			l.prefix = append(l.prefix, url.QueryEscape(k)+"="+url.QueryEscape(e.Attrs[k])...)
		}
	}
	return l.prefix
}

// Flush implements logs.Sink.
func (l *logWriter) Flush() error {
	l.bulk = l.written > muchAtOnce
	l.written = 0
	if err := l.send(); err != nil {
		return err
	}
	l.failed = l.flush()
	return l.failed
}

func (l *logWriter) send() error {
	if len(l.buf) == 0 {
		return nil
	}
	_, l.failed = l.w.Write(l.buf)
	l.buf, l.frame = l.buf[:0], -1
	return l.failed
}

// fail tells the client, which has got its headers, why the log ends early.
func (l *logWriter) fail(err error) {
	if l.Flush() != nil {
		return
	}
	message := []byte("Error grabbing logs: " + err.Error() + "\n")
	if l.mux {
		message = stream.AppendFrame(nil, stream.SystemErr, bytes.TrimSpace(message))
	}
	if _, l.failed = l.w.Write(message); l.failed == nil {
		l.failed = l.flush()
	}
}
