// Package logs reads what the keeper keeps of containers' output: whole, from
// the end, or on and on while a container runs, through rotated and compressed
// files.
//
// It must not write log files, and knows neither containers nor HTTP.
package logs

import (
	"context"
	"time"

	"github.com/kelp-engine/kelp/engine/fault"
	"github.com/kelp-engine/kelp/engine/logs/entry"
)

// Log names a container's log files.
type Log struct {
	Driver string // "json-file", "local" or "none"
	Path   string // the file written to; rotated ones are Path.1, Path.2.gz, …
}

// Readable says why the log cannot be read, if so.
func (l Log) Readable() error {
	switch l.Driver {
	case "json-file", "local":
		return nil
	}
	return fault.NotImplemented("configured logging driver does not support reading")
}

// Query says which entries are wanted.
type Query struct {
	Stdout, Stderr bool
	// Since and Until, unless zero, bound the entries' times, both included.
	Since, Until time.Time
	// Lines is how many lines of the end to start with; negative is all.
	Lines int
	// Times and Attrs say that those members of entries are used.
	Times, Attrs bool
	// Ended, unless nil, asks for entries to come as well, until it is closed
	// (the container has exited) and all that was written is read.
	Ended <-chan struct{}
}

// Sink takes entries.
type Sink interface {
	// Entry takes the next entry, which is valid until it returns.
	Entry(*entry.Entry) error
	// Flush is called when there may be a wait before the next entry.
	Flush() error
}

// Read hands all entries that q wants to sink, oldest first. A log that was
// never written to has none. It returns early with ctx or sink's error.
func Read(ctx context.Context, l Log, q Query, sink Sink) error {
	if err := l.Readable(); err != nil {
		return err
	}
	r := &reader{log: l, query: q, sink: sink}
	r.dec = r.decoder()
	if q.Ended != nil {
		// Watched before anything is read: no change can fall in between.
		r.changes = watch(l.Path)
		defer r.changes.Close()
	}
	files, err := open(l.Path)
	if err != nil {
		return err
	}
	r.files = files
	defer func() { closeAll(r.files) }()
	if q.Lines >= 0 {
		if err := r.seekLines(ctx, q.Lines); err != nil {
			return err
		}
	}
	if err := r.all(ctx); err != nil {
		return err
	}
	return sink.Flush()
}

// decoder returns a decoder that decodes what the query needs.
func (r *reader) decoder() entry.Decoder {
	if r.log.Driver == "local" {
		return entry.LocalDecoder{}
	}
	q := r.query
	return &entry.JSONDecoder{NoTime: !q.Times && q.Since.IsZero() && q.Until.IsZero(), NoAttrs: !q.Attrs}
}

// wants says whether an entry of this stream and time is to be handed on;
// done says that no later one is either.
func (q *Query) wants(e *entry.Entry) (yes, done bool) {
	switch {
	case !q.Until.IsZero() && e.Time.After(q.Until):
		return false, true
	case !q.Since.IsZero() && e.Time.Before(q.Since):
		return false, false
	case e.Stream == entry.Stdout:
		return q.Stdout, false
	default:
		return q.Stderr, false
	}
}
