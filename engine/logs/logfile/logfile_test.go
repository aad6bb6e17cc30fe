package logfile

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kelp-engine/kelp/engine/logs/entry"
)

var at = time.Date(2026, 11, 21, 8, 9, 10, 5, time.UTC)

func mustOpen(t testing.TB, o Options) *Log {
	t.Helper()
	l, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func mustClose(t testing.TB, l *Log) {
	t.Helper()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

func read(t testing.TB, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// entries decodes a json-file log.
func entries(t testing.TB, b string) (all []entry.Entry) {
	t.Helper()
	d := &entry.JSONDecoder{}
	for rest := []byte(b); len(rest) > 0; {
		var e entry.Entry
		n, ok := d.Next(rest, &e)
		if n == 0 {
			t.Fatalf("torn end: %q", rest)
		}
		if ok {
			e.Line = bytes.Clone(e.Line)
			all = append(all, e)
		}
		rest = rest[n:]
	}
	return all
}

func TestFormatIsDockers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "json.log")
	l := mustOpen(t, Options{Driver: "json-file", Path: path, Attrs: map[string]string{"tag": "x"}})
	l.Write(entry.Stdout, []byte("one\ntw"), at)
	l.Write(entry.Stderr, []byte("err\n"), at)
	l.Write(entry.Stdout, []byte("o\nthree"), at)
	mustClose(t, l)
	want := `{"log":"one\n","stream":"stdout","attrs":{"tag":"x"},"time":"2026-11-21T08:09:10.000000005Z"}
{"log":"err\n","stream":"stderr","attrs":{"tag":"x"},"time":"2026-11-21T08:09:10.000000005Z"}
{"log":"two\n","stream":"stdout","attrs":{"tag":"x"},"time":"2026-11-21T08:09:10.000000005Z"}
{"log":"three","stream":"stdout","attrs":{"tag":"x"},"time":"`
	if got := read(t, path); !strings.HasPrefix(got, want) || !strings.HasSuffix(got, "\"}\n") {
		t.Errorf("got\n%s", got)
	}
}

func TestLongLines(t *testing.T) {
	for _, length := range []int{0, 1, entry.MaxLine - 1, entry.MaxLine, entry.MaxLine + 1, 3*entry.MaxLine + 7} {
		for _, step := range []int{1 << 20, 1000, entry.MaxLine} {
			path := filepath.Join(t.TempDir(), "json.log")
			l := mustOpen(t, Options{Driver: "json-file", Path: path})
			line := strings.Repeat("x", length)
			for chunk := range slices.Chunk([]byte(line+"\nnext\n"), step) {
				l.Write(entry.Stdout, chunk, time.Now())
			}
			mustClose(t, l)
			var got strings.Builder
			all := entries(t, read(t, path))
			for i, e := range all {
				got.Write(e.Line)
				if !e.Partial {
					got.WriteByte('\n')
				} else if len(e.Line) != entry.MaxLine || !e.Time.Equal(all[i+1].Time) {
					t.Errorf("length %d: piece of %d bytes, or of another time", length, len(e.Line))
				}
			}
			if got.String() != line+"\nnext\n" {
				t.Errorf("length %d in steps of %d: read %d bytes back", length, step, got.Len())
			}
		}
	}
}

func TestTornLineIsMended(t *testing.T) {
	path := filepath.Join(t.TempDir(), "json.log")
	if err := os.WriteFile(path, []byte(`{"log":"one\n","stream":"stdout","time":"2026-11-21T08:09:10Z"}`+"\n"+`{"log":"tw`), 0o600); err != nil {
		t.Fatal(err)
	}
	l := mustOpen(t, Options{Driver: "json-file", Path: path})
	l.Write(entry.Stdout, []byte("three\n"), at)
	mustClose(t, l)
	if all := entries(t, read(t, path)); len(all) != 2 || string(all[1].Line) != "three" {
		t.Errorf("got %v", all)
	}
}

func TestRotation(t *testing.T) {
	for _, compress := range []bool{false, true} {
		path := filepath.Join(t.TempDir(), "json.log")
		o := Options{Driver: "json-file", Path: path, MaxSize: 1000, MaxFile: 3, Compress: compress}
		l := mustOpen(t, o)
		for i := range 100 {
			l.Write(entry.Stdout, fmt.Appendf(nil, "line %d\n", i), at)
			if i == 50 { // goes on where it was
				mustClose(t, l)
				l = mustOpen(t, o)
			}
		}
		mustClose(t, l)
		names, err := filepath.Glob(path + "*")
		if err != nil || len(names) != 3 {
			t.Fatalf("files: %v, %v", names, err)
		}
		slices.Sort(names)
		slices.Reverse(names)
		var lines []string
		for _, name := range names {
			content := read(t, name)
			if strings.HasSuffix(name, ".gz") {
				z, err := gzip.NewReader(strings.NewReader(content))
				if err != nil {
					t.Fatal(err)
				}
				b, err := io.ReadAll(z)
				if err != nil {
					t.Fatal(err)
				}
				content = string(b)
			} else if compress && name != path {
				t.Errorf("%s is not compressed", name)
			}
			if len(content) > 1100 {
				t.Errorf("%s has %d bytes", name, len(content))
			}
			for _, e := range entries(t, content) {
				lines = append(lines, string(e.Line))
			}
		}
		if len(lines) < 25 || lines[len(lines)-1] != "line 99" {
			t.Fatalf("lines: %v", lines)
		}
		for i, line := range lines {
			if want := fmt.Sprintf("line %d", 100-len(lines)+i); line != want {
				t.Errorf("got %q, want %q", line, want)
			}
		}
	}
}

func TestOneFileIsCutToNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "json.log")
	l := mustOpen(t, Options{Driver: "json-file", Path: path, MaxSize: 1000, MaxFile: 1})
	for range 100 {
		l.Write(entry.Stdout, []byte("line\n"), at)
	}
	mustClose(t, l)
	if names, _ := filepath.Glob(path + "*"); len(names) != 1 || len(read(t, path)) > 1100 {
		t.Errorf("files %v, %d bytes", names, len(read(t, path)))
	}
}

// A full disk drops output whole and logging goes on when there is room.
func TestFullDisk(t *testing.T) {
	path := filepath.Join(t.TempDir(), "json.log")
	l := mustOpen(t, Options{Driver: "json-file", Path: path})
	l.Write(entry.Stdout, []byte("before\n"), at)
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &old); err != nil {
		t.Fatal(err)
	}
	// A limit on file sizes stands in for the disk; Go ignores SIGXFSZ's default.
	limit := old
	limit.Cur = 100
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &limit); err != nil {
		t.Fatal(err)
	}
	l.Write(entry.Stdout, []byte("lost\n"), at)
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &old); err != nil {
		t.Fatal(err)
	}
	if l.failed.IsZero() {
		t.Fatal("the write did not fail")
	}
	l.Write(entry.Stdout, []byte("lost, too\n"), at)
	l.failed = l.failed.Add(-2 * retry)
	l.Write(entry.Stdout, []byte("after\n"), at)
	mustClose(t, l)
	all := entries(t, read(t, path))
	if len(all) != 2 || string(all[0].Line) != "before" || string(all[1].Line) != "after" {
		t.Errorf("got %v", all)
	}
}

func TestLeftoversOfACompression(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a[b]*.log")
	for _, name := range []string{".1", ".1.gz.tmp", ".2", ".2.gz"} {
		if err := os.WriteFile(path+name, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	mustClose(t, mustOpen(t, Options{Driver: "json-file", Path: path, MaxFile: 3, MaxSize: 100}))
	names, err := os.ReadDir(dir)
	if err != nil || len(names) != 3 || names[1].Name() != "a[b]*.log.1" || names[2].Name() != "a[b]*.log.2.gz" {
		t.Errorf("files: %v, %v", names, err)
	}
}

// FuzzWrite holds that what is written in pieces of any size reads back whole.
func FuzzWrite(f *testing.F) {
	f.Add([]byte("a\nb\n\n\nc"), 3, int64(0))
	f.Add(bytes.Repeat([]byte("x\n"), entry.MaxLine+3), 5000, int64(100))
	f.Fuzz(func(t *testing.T, data []byte, step int, maxSize int64) {
		if len(data) > 1<<16 {
			return
		}
		step = max(1, step%(1<<17))
		if maxSize > 0 { // as few files as the test can take
			maxSize = 1<<16 + maxSize%(1<<20)
		}
		path := filepath.Join(t.TempDir(), "json.log")
		l := mustOpen(t, Options{Driver: "json-file", Path: path, MaxSize: max(0, maxSize), MaxFile: 5000})
		for chunk := range slices.Chunk(data, step) {
			l.Write(entry.Stdout, chunk, at)
		}
		mustClose(t, l)
		var got []byte
		names, _ := filepath.Glob(path + ".*")
		for i := len(names); i >= 0; i-- {
			name := path
			if i > 0 {
				name = fmt.Sprintf("%s.%d", path, i)
			}
			for _, e := range entries(t, read(t, name)) {
				got = append(got, e.Line...)
				if !e.Partial {
					got = append(got, '\n')
				}
			}
		}
		if !bytes.Equal(got, data) {
			t.Errorf("wrote %d bytes, read %d back", len(data), len(got))
		}
	})
}

func BenchmarkWrite(b *testing.B) {
	for _, driver := range []string{"json-file", "local"} {
		for _, size := range []int{10, 100, 1000} {
			b.Run(fmt.Sprintf("%s/%d", driver, size), func(b *testing.B) {
				l := mustOpen(b, Options{Driver: driver, Path: filepath.Join(b.TempDir(), "log"), MaxSize: 64 << 20})
				chunk := bytes.Repeat(append(bytes.Repeat([]byte("x"), size-1), '\n'), 64<<10/size)
				b.SetBytes(int64(len(chunk)))
				for b.Loop() {
					l.Write(entry.Stdout, chunk, time.Now())
				}
				mustClose(b, l)
			})
		}
	}
}
