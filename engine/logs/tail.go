package logs

import (
	"context"
	"io"

	"github.com/kelp-engine/kelp/engine/logs/entry"
)

// chunk is how much is read at a time backwards, in bytes.
const chunk = 256 << 10

// counter counts the lines of a log backwards, entry by entry. Partial entries
// belong to the line that a later entry of their stream ends.
type counter struct {
	query *Query
	left  int                    // lines still to be found
	open  [entry.Stderr + 1]bool // a later entry of the stream was met
}

// add counts e; over says that e is of a line too many.
func (c *counter) add(e *entry.Entry) (over bool) {
	if !c.query.Since.IsZero() && e.Time.Before(c.query.Since) {
		return true // and so are all before it
	}
	if yes, _ := c.query.wants(e); !yes {
		return false
	}
	if !e.Partial || !c.open[e.Stream] {
		if c.left == 0 {
			return true
		}
		c.left--
	}
	c.open[e.Stream] = true
	return false
}

// seekLines makes reading begin with the last n lines.
func (r *reader) seekLines(ctx context.Context, n int) error {
	c := &counter{query: &r.query, left: n}
	for i := len(r.files) - 1; i >= 0; i-- {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		f := r.files[i]
		find := r.seekBack
		if f.compressed {
			find = r.seekCompressed
		}
		found, err := find(ctx, f, c)
		if err != nil {
			return err
		}
		if found {
			closeAll(r.files[:i])
			r.files = r.files[i:]
			return nil
		}
	}
	return nil
}

// seekBack reads f from its end and sets its offset where c has enough.
func (r *reader) seekBack(ctx context.Context, f *file, c *counter) (found bool, err error) {
	low := f.info.Size() // b holds the file's bytes from here on
	var b []byte
	var e entry.Entry
	for low > 0 || len(b) > 0 {
		start := -1
		if len(b) > 0 {
			var ok bool
			start, ok = r.dec.Last(b, low == 0, &e)
			if ok && c.add(&e) {
				f.offset = low + int64(len(b))
				return true, nil
			}
		}
		if start >= 0 {
			b = b[:start]
			continue
		}
		if ctx.Err() != nil {
			return false, ctx.Err()
		}
		size := min(low, int64(max(chunk, len(b))))
		more := make([]byte, int(size)+len(b))
		copy(more[size:], b)
		low -= size
		if _, err := f.ReadAt(more[:size], low); err != nil && err != io.EOF {
			return false, err
		}
		b = more
	}
	return false, nil
}

// seekCompressed counts the lines of f, which can only be read forwards, and
// sets how many to leave out.
func (r *reader) seekCompressed(ctx context.Context, f *file, c *counter) (found bool, err error) {
	count := &lineCount{}
	counting := &reader{query: r.query, sink: count, buf: r.buf}
	counting.log = r.log
	counting.query.Ended = nil
	counting.dec = r.decoder()
	if err := counting.file(ctx, f, false); err != nil {
		return false, err
	}
	r.buf = counting.buf
	lines := count.lines
	for s, unfinished := range count.unfinished {
		if unfinished && !c.open[s] {
			lines++
		}
		c.open[s] = c.open[s] || count.met[s]
	}
	if lines <= c.left && count.lines > 0 || count.lines == 0 {
		c.left -= min(lines, c.left)
		return false, nil
	}
	f.skip = lines - c.left
	return true, nil
}

// lineCount counts lines forwards.
type lineCount struct {
	lines           int
	met, unfinished [entry.Stderr + 1]bool
}

// Entry implements Sink.
func (l *lineCount) Entry(e *entry.Entry) error {
	l.met[e.Stream] = true
	l.unfinished[e.Stream] = e.Partial
	if !e.Partial {
		l.lines++
	}
	return nil
}

// Flush implements Sink.
func (l *lineCount) Flush() error { return nil }
