package apiserver

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/api/pkg/stdcopy"

	"github.com/kelp-engine/kelp/engine/logs"
	"github.com/kelp-engine/kelp/engine/logs/entry"
)

func TestLogWriter(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 60, time.UTC)
	write := func(l *logWriter) {
		for _, e := range []entry.Entry{
			{Stream: entry.Stdout, Time: at, Line: []byte("long "), Partial: true, Attrs: map[string]string{"b": "2", "a": "x y"}},
			{Stream: entry.Stderr, Time: at, Line: []byte("err")},
			{Stream: entry.Stdout, Time: at, Line: []byte("line"), Attrs: map[string]string{"b": "2", "a": "x y"}},
			{Stream: entry.Stdout, Time: at, Line: []byte("next")},
		} {
			if err := l.Entry(&e); err != nil {
				t.Fatal(err)
			}
		}
		if err := l.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	var framed, stdout, stderr bytes.Buffer
	write(newLogWriter(&framed, true))
	if _, err := stdcopy.StdCopy(&stdout, &stderr, &framed); err != nil || stdout.String() != "long line\nnext\n" || stderr.String() != "err\n" {
		t.Errorf("framed: %q, %q, %v", stdout.String(), stderr.String(), err)
	}
	var raw bytes.Buffer
	l := newLogWriter(&raw, false)
	l.times, l.details = true, true
	write(l)
	const stamp = "2026-01-02T03:04:05.000000060Z "
	if want := stamp + "a=x+y,b=2 long " + stamp + " err\nline\n" + stamp + " next\n"; raw.String() != want {
		t.Errorf("raw: got %q, want %q", raw.String(), want)
	}
	l = newLogWriter(io.Discard, true)
	l.fail(io.ErrUnexpectedEOF)
	framed.Reset()
	l.w = &framed
	l.fail(io.ErrUnexpectedEOF)
	if _, err := stdcopy.StdCopy(&stdout, &stderr, &framed); err == nil || !strings.Contains(err.Error(), "unexpected EOF") {
		t.Errorf("a log that breaks off is told as %v", err)
	}
}

// Much output shares frames, but streams do not.
func TestLogWriterBulk(t *testing.T) {
	var framed, stdout, stderr bytes.Buffer
	writes := 0
	l := newLogWriter(&framed, true)
	for i := range 20_000 {
		e := entry.Entry{Stream: entry.Stdout, Line: bytes.Repeat([]byte("o"), i%100)}
		if i%1000 == 0 {
			e.Stream = entry.Stderr
		}
		if err := l.Entry(&e); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Flush(); err != nil {
		t.Fatal(err)
	}
	count := func(b *bytes.Buffer) io.Writer {
		return writerFunc(func(p []byte) (int, error) { writes++; return b.Write(p) })
	}
	if _, err := stdcopy.StdCopy(count(&stdout), count(&stderr), &framed); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(stdout.String(), "\n"); n != 19_980 || strings.Count(stderr.String(), "\n") != 20 {
		t.Errorf("%d lines of output, %d of errors", n, strings.Count(stderr.String(), "\n"))
	}
	if writes < 1000 || writes > 2500 {
		t.Errorf("%d frames: the first 64 KiB have one for each line, what follows few", writes)
	}
}

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// BenchmarkLogs is the way from a log file to what is sent to a client.
func BenchmarkLogs(b *testing.B) {
	path := filepath.Join(b.TempDir(), "x.log")
	e := entry.Entry{Stream: entry.Stdout, Time: time.Unix(1_700_000_000, 0), Line: bytes.Repeat([]byte("x"), 99)}
	const lines = 300_000
	var content []byte
	enc := entry.NewJSON(nil)
	for range lines {
		content = enc.Append(content, &e)
	}
	if err := os.WriteFile(path, content, 0o600); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(lines * 100)
	for b.Loop() {
		err := logs.Read(b.Context(), logs.Log{Driver: "json-file", Path: path}, logs.Query{Stdout: true, Lines: -1}, newLogWriter(io.Discard, true))
		if err != nil {
			b.Fatal(err)
		}
	}
}
