package daemonlog

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"
)

// open returns a writer on its own file descriptor, as each process has one.
func open(t *testing.T, path string, size int64) *bounded {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	fd, err := unix.Dup(int(f.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return &bounded{path: path, max: size, fds: []int{fd}}
}

func TestBoundedAmongProcesses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "kelp.log")
	const lines, width = 100, 20
	size := int64(lines * width) // two writers of 100 lines: one rotation
	var wg sync.WaitGroup
	for w := range 2 {
		b := open(t, path, size)
		wg.Go(func() {
			for i := range lines {
				line := fmt.Sprintf("%c%0*d\n", 'a'+w, width-2, i)
				if n, err := b.Write([]byte(line)); n != width || err != nil {
					t.Errorf("wrote %d bytes: %v", n, err)
				}
			}
		})
	}
	wg.Wait()
	var all []byte
	for _, name := range []string{path, path + ".1"} {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if int64(len(b)) > size+width { // a writer that had checked before the other wrote
			t.Errorf("%s has %d bytes, more than %d", name, len(b), size)
		}
		all = append(all, b...)
	}
	for w := range 2 {
		for i := range lines {
			if line := fmt.Sprintf("%c%0*d\n", 'a'+w, width-2, i); !bytes.Contains(all, []byte(line)) {
				t.Errorf("the line %q is lost", strings.TrimSpace(line))
			}
		}
	}
}

func TestBoundedGoesOnWithoutItsDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "gone")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	b := open(t, filepath.Join(dir, "kelp.log"), 1000)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Write([]byte("hello\n")); err != nil {
		t.Error(err)
	}
}

func TestLogrusIsAdopted(t *testing.T) {
	old := slog.Default()
	defer slog.SetDefault(old)
	var out bytes.Buffer
	slog.SetDefault(slog.New(slog.NewTextHandler(&out, nil)))
	adoptLogrus(slog.LevelInfo)
	logrus.WithError(os.ErrNotExist).WithField("n", 7).Warn("a library warns")
	logrus.Debug("details")
	got := out.String()
	for _, want := range []string{"level=WARN", `msg="a library warns"`, `error="file does not exist"`, "n=7"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %s in %s", want, got)
		}
	}
	if strings.Contains(got, "details") {
		t.Errorf("details at level info: %s", got)
	}
}
