package logs

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kelp-engine/kelp/engine/logs/entry"
)

var drivers = []string{"json-file", "local"}

// writer stands in for the keeper.
type writer struct {
	t        *testing.T
	path     string
	enc      entry.Encoder
	f        *os.File
	buf      []byte
	clock    time.Time
	keep     int // rotated files
	compress bool
}

func newWriter(t *testing.T, driver string) *writer {
	w := &writer{t: t, path: filepath.Join(t.TempDir(), "x.log"), enc: entry.NewJSON(nil), clock: time.Unix(1_700_000_000, 0), keep: 100}
	if driver == "local" {
		w.enc = entry.Local{}
	}
	w.create()
	t.Cleanup(func() { w.f.Close() })
	return w
}

func (w *writer) check(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *writer) create() {
	var err error
	w.f, err = os.OpenFile(w.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	w.check(err)
}

// line writes a line, one second after the one before; "out:" or "err:" names
// the stream, and a text that ends in "…" is partial.
func (w *writer) line(text string) {
	e := entry.Entry{Stream: entry.Stdout, Time: w.clock}
	w.clock = w.clock.Add(time.Second)
	if rest, ok := strings.CutPrefix(text, "err:"); ok {
		e.Stream, text = entry.Stderr, rest
	}
	text, e.Partial = strings.CutSuffix(text, "…")
	e.Line = []byte(text)
	w.buf = w.enc.Append(w.buf[:0], &e)
	_, err := w.f.Write(w.buf)
	w.check(err)
}

func (w *writer) name(i int) string { return fmt.Sprintf("%s.%d", w.path, i) }

func (w *writer) rotate() {
	w.check(w.f.Close())
	_ = os.Remove(w.name(w.keep))
	_ = os.Remove(w.name(w.keep) + ".gz")
	for i := w.keep; i > 1; i-- {
		w.move(w.name(i-1), w.name(i))
		w.move(w.name(i-1)+".gz", w.name(i)+".gz")
	}
	w.move(w.path, w.name(1))
	w.create()
	if w.compress {
		w.gzip(w.name(1))
	}
}

func (w *writer) move(from, to string) {
	if err := os.Rename(from, to); !errors.Is(err, fs.ErrNotExist) {
		w.check(err)
	}
}

func (w *writer) gzip(path string) {
	b, err := os.ReadFile(path)
	w.check(err)
	var z bytes.Buffer
	zw := gzip.NewWriter(&z)
	_, err = zw.Write(b)
	w.check(err)
	w.check(zw.Close())
	w.check(os.WriteFile(path+".tmp", z.Bytes(), 0o600))
	w.check(os.Rename(path+".tmp", path+".gz"))
	w.check(os.Remove(path))
}

// sink joins entries to text, one a line unless partial.
type sink struct {
	bytes.Buffer
	each func(*entry.Entry) error
}

func (s *sink) Entry(e *entry.Entry) error {
	s.Write(e.Line)
	if !e.Partial {
		s.WriteByte('\n')
	}
	if s.each != nil {
		return s.each(e)
	}
	return nil
}

func (s *sink) Flush() error { return nil }

func read(t *testing.T, driver string, w *writer, q Query) string {
	t.Helper()
	var s sink
	if err := Read(t.Context(), Log{Driver: driver, Path: w.path}, q, &s); err != nil {
		t.Fatal(err)
	}
	return strings.ReplaceAll(s.String(), "\n", " ")
}

func TestRead(t *testing.T) {
	start := time.Unix(1_700_000_000, 0)
	both := Query{Stdout: true, Stderr: true, Lines: -1}
	with := func(change func(*Query)) Query { q := both; change(&q); return q }
	rows := []struct {
		name  string
		query Query
		want  string
	}{
		{"all", both, "a b c d e f g "},
		{"stdout", with(func(q *Query) { q.Stderr = false }), "a c d f g "},
		{"stderr", with(func(q *Query) { q.Stdout = false }), "b e "},
		{"none of the end", with(func(q *Query) { q.Lines = 0 }), ""},
		{"last line", with(func(q *Query) { q.Lines = 1 }), "g "},
		{"last lines over files", with(func(q *Query) { q.Lines = 5 }), "c d e f g "},
		{"just all lines", with(func(q *Query) { q.Lines = 7 }), "a b c d e f g "},
		{"more lines than there are", with(func(q *Query) { q.Lines = 1e9 }), "a b c d e f g "},
		{"last of one stream", with(func(q *Query) { q.Lines = 2; q.Stdout = false }), "b e "},
		{"since", with(func(q *Query) { q.Since = start.Add(4 * time.Second) }), "e f g "},
		{"until", with(func(q *Query) { q.Until = start.Add(2 * time.Second) }), "a b c "},
		{"since and until", with(func(q *Query) { q.Since = start.Add(time.Second); q.Until = start.Add(2500 * time.Millisecond) }), "b c "},
		{"last until", with(func(q *Query) { q.Lines = 2; q.Until = start.Add(3 * time.Second) }), "c d "},
		{"last since", with(func(q *Query) { q.Lines = 5; q.Since = start.Add(5 * time.Second) }), "f g "},
		{"nothing", Query{Lines: -1}, ""},
	}
	for _, driver := range drivers {
		for _, compress := range []bool{false, true} {
			w := newWriter(t, driver)
			w.compress = compress
			for _, l := range []string{"a", "err:b", "|", "c", "d", "|", "|", "err:e", "f", "|", "g"} {
				if l == "|" {
					w.rotate()
				} else {
					w.line(l)
				}
			}
			for _, row := range rows {
				if got := read(t, driver, w, row.query); got != row.want {
					t.Errorf("%s, compressed %v: %s: got %q, want %q", driver, compress, row.name, got, row.want)
				}
			}
		}
	}
}

// Long lines are joined, and count as one.
func TestPartialLines(t *testing.T) {
	for _, driver := range drivers {
		for _, compress := range []bool{false, true} {
			w := newWriter(t, driver)
			w.compress = compress
			for _, l := range []string{"0", "a1…", "|", "a2…", "a3", "b1…", "b2", "|", "c1…", "c2…"} {
				if l == "|" {
					w.rotate()
				} else {
					w.line(l)
				}
			}
			for lines, want := range []string{"", "c1c2", "b1b2 c1c2", "a1a2a3 b1b2 c1c2", "0 a1a2a3 b1b2 c1c2"} {
				if got := read(t, driver, w, Query{Stdout: true, Lines: lines}); got != want {
					t.Errorf("%s, compressed %v: last %d: got %q, want %q", driver, compress, lines, got, want)
				}
			}
		}
	}
}

func TestMissingAndForeignFiles(t *testing.T) {
	w := newWriter(t, "json-file")
	w.check(os.Remove(w.path))
	all := Query{Stdout: true, Stderr: true, Lines: -1}
	if got := read(t, "json-file", w, all); got != "" {
		t.Errorf("a missing log has %q", got)
	}
	if got := read(t, "json-file", &writer{path: "/nonexistent/x.log"}, all); got != "" {
		t.Errorf("a log in no directory has %q", got)
	}
	w.check(os.WriteFile(w.path+".1.gz", []byte("no gzip"), 0o600))
	w.check(os.WriteFile(w.path+".x", []byte("no log"), 0o600))
	w.check(os.WriteFile(w.path, []byte("\x00garbage\n{\"log\":\"torn"), 0o600))
	w.create()
	w.line("a")
	w.line("b")
	for _, lines := range []int{-1, 5} {
		all.Lines = lines
		if got := read(t, "json-file", w, all); got != "a b " {
			t.Errorf("%d lines among garbage: got %q", lines, got)
		}
	}
	if err := Read(t.Context(), Log{Driver: "none"}, all, &sink{}); err == nil || err.Error() != "configured logging driver does not support reading" {
		t.Errorf("driver none: %v", err)
	}
}

// A follower gets every line once, whatever rotation does meanwhile.
func TestFollow(t *testing.T) {
	const lines = 20000
	for _, driver := range drivers {
		for _, compress := range []bool{false, true} {
			t.Run(fmt.Sprint(driver, compress), func(t *testing.T) {
				t.Parallel()
				w := newWriter(t, driver)
				w.compress = compress
				ended := make(chan struct{})
				got := make(chan error, 1)
				go func() {
					next := 0
					s := &sink{}
					s.each = func(e *entry.Entry) error {
						if string(e.Line) != fmt.Sprint(next) {
							return fmt.Errorf("got line %q, want %d", e.Line, next)
						}
						next++
						return nil
					}
					err := Read(t.Context(), Log{Driver: driver, Path: w.path}, Query{Stdout: true, Lines: -1, Ended: ended}, s)
					if err == nil && next != lines {
						err = fmt.Errorf("ended after %d lines", next)
					}
					got <- err
				}()
				for i := range lines {
					w.line(fmt.Sprint(i))
					if i%517 == 500 {
						w.rotate()
					}
					if i%3000 == 0 {
						time.Sleep(2 * time.Millisecond)
					}
				}
				close(ended)
				if err := <-got; err != nil {
					t.Error(err)
				}
			})
		}
	}
}

func TestFollowStops(t *testing.T) {
	w := newWriter(t, "json-file")
	w.line("a")
	q := Query{Stdout: true, Lines: -1, Ended: make(chan struct{}), Until: w.clock.Add(time.Hour)}
	var s sink
	q.Until = time.Now().Add(-time.Hour)
	w.check(Read(t.Context(), Log{"json-file", w.path}, q, &s))
	q.Until = time.Time{}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := Read(ctx, Log{"json-file", w.path}, q, &s); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("follow ended with %v", err)
	}
	full := errors.New("client gone")
	s.each = func(*entry.Entry) error { return full }
	if err := Read(t.Context(), Log{"json-file", w.path}, q, &s); !errors.Is(err, full) {
		t.Errorf("the sink's error became %v", err)
	}
}

// The log may not be there yet when a follower comes.
func TestFollowBeforeTheFirstLine(t *testing.T) {
	w := newWriter(t, "local")
	w.check(os.Remove(w.path))
	ended, done := make(chan struct{}), make(chan string, 1)
	go func() {
		var s sink
		err := Read(t.Context(), Log{"local", w.path}, Query{Stdout: true, Lines: 0, Ended: ended}, &s)
		done <- fmt.Sprint(s.String(), err)
	}()
	time.Sleep(10 * time.Millisecond)
	w.create()
	w.line("a")
	close(ended)
	if got := <-done; got != "a\n<nil>" {
		t.Error(got)
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte(`{"log":"a\n","stream":"stdout","time":"2026-01-01T00:00:00Z"}`+"\n"), false, 2)
	f.Add(entry.Local{}.Append(nil, &entry.Entry{Stream: entry.Stdout, Line: []byte("a")}), true, 1)
	f.Fuzz(func(t *testing.T, b []byte, local bool, lines int) {
		path := filepath.Join(t.TempDir(), "x.log")
		driver := "json-file"
		if local {
			driver = "local"
		}
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		var all, last sink
		if err := Read(t.Context(), Log{driver, path}, Query{Stdout: true, Stderr: true, Lines: -1}, &all); err != nil {
			t.Fatal(err)
		}
		if err := Read(t.Context(), Log{driver, path}, Query{Stdout: true, Stderr: true, Lines: lines & 7}, &last); err != nil {
			t.Fatal(err)
		}
		if !local && !bytes.HasSuffix(all.Bytes(), last.Bytes()) {
			t.Errorf("the last %d lines are %q of %q", lines&7, last.String(), all.String())
		}
	})
}

// BenchmarkRead is the way from the file to the sink.
func BenchmarkRead(b *testing.B) {
	for _, driver := range drivers {
		for _, size := range []int{20, 100, 1000, 16000} {
			path := filepath.Join(b.TempDir(), "x.log")
			var enc entry.Encoder = entry.NewJSON(nil)
			if driver == "local" {
				enc = entry.Local{}
			}
			var content []byte
			e := entry.Entry{Stream: entry.Stdout, Time: time.Unix(1_700_000_000, 0), Line: bytes.Repeat([]byte("x"), size)}
			lines := 64 << 20 / (size + 1)
			for range lines {
				content = enc.Append(content, &e)
			}
			if err := os.WriteFile(path, content, 0o600); err != nil {
				b.Fatal(err)
			}
			b.Run(fmt.Sprintf("%s/%d", driver, size), func(b *testing.B) {
				b.SetBytes(int64(lines * (size + 1)))
				for b.Loop() {
					n := &lineCount{}
					if err := Read(b.Context(), Log{driver, path}, Query{Stdout: true, Lines: -1}, n); err != nil || n.lines != lines {
						b.Fatal(n.lines, err)
					}
				}
			})
		}
	}
}
