package transfer

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/jsonstream"
	"go.podman.io/storage"
	"golang.org/x/sys/unix"

	"github.com/kelp-engine/kelp/engine/fault"
	"github.com/kelp-engine/kelp/image"
	"github.com/kelp-engine/kelp/test/images"
)

func newManager(t testing.TB) (*Manager, string) {
	t.Helper()
	return newManagerIn(t, t.TempDir())
}

func newManagerIn(t testing.TB, dir string) (*Manager, string) {
	t.Helper()
	o := image.Options{GraphRoot: filepath.Join(dir, "root"), RunRoot: filepath.Join(dir, "run")}
	s, err := image.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		st, err := storage.GetStore(storage.StoreOptions{GraphRoot: o.GraphRoot, RunRoot: o.RunRoot, GraphDriverName: "overlay"})
		if err == nil {
			_, err = st.Shutdown(true)
		}
		if err := errors.Join(err, s.Close()); err != nil {
			t.Error(err)
		}
	})
	return New(s, Options{}), dir
}

// messages collects progress.
type messages struct {
	mu   sync.Mutex
	list []jsonstream.Message
}

func (m *messages) add(msg jsonstream.Message) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.list = append(m.list, msg)
}

// text is all that would be printed.
func (m *messages) text() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var b strings.Builder
	for _, msg := range m.list {
		b.WriteString(msg.ID + " " + msg.Status + msg.Stream + "\n")
	}
	return b.String()
}

// files lists the regular files below dir, for comparing before and after.
func files(t *testing.T, dir string) map[string]bool {
	t.Helper()
	found := map[string]bool{}
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && !strings.Contains(path, ".lock") && filepath.Base(path) != "staging" {
			found[path] = true
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestLoadHostile(t *testing.T) {
	m, dir := newManager(t)
	for _, h := range images.HostileArchives() {
		t.Run(h.Name, func(t *testing.T) {
			b, err := h.Make()
			if err != nil {
				t.Fatal(err)
			}
			before := files(t, dir)
			err = m.Load(t.Context(), bytes.NewReader(b), LoadOptions{}, func(jsonstream.Message) {})
			if err == nil && !h.MayLoad {
				t.Error("it is loaded")
			}
			t.Log(err)
			if _, err := os.Lstat(images.HostileTarget); err == nil {
				t.Fatalf("%s was written", images.HostileTarget)
			}
			if err != nil {
				for f := range files(t, dir) {
					if !before[f] {
						t.Errorf("a trace is left: %s", f)
					}
				}
				return
			}
			if _, err := m.store.Remove(t.Context(), "hostile:latest", image.RemoveOptions{Force: true}); err != nil {
				t.Error(err)
			}
		})
	}
}

// An archive that unpacks to more than the disk holds is refused before the
// disk is full, and what was unpacked of it goes again.
func TestBomb(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=128m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	m, _ := newManagerIn(t, dir)
	b, err := images.Bomb(256 << 20)
	if err != nil {
		t.Fatal(err)
	}
	before := files(t, dir)
	discard := func(jsonstream.Message) {}
	for what, err := range map[string]error{
		"load":   m.Load(t.Context(), bytes.NewReader(b), LoadOptions{}, discard),
		"import": m.Import(t.Context(), zeros(t, 256<<20), ImportOptions{Size: -1}, discard),
	} {
		if !errors.Is(err, unix.ENOSPC) || !errdefs.IsUnavailable(err) || errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), "not enough space") {
			t.Errorf("%s of a bomb gives %v", what, err)
		}
	}
	for f := range files(t, dir) {
		if !before[f] {
			t.Errorf("a trace is left: %s", f)
		}
	}
}

// zeros is an archive of one file of zeros.
func zeros(t *testing.T, size int64) io.Reader {
	var head bytes.Buffer
	if err := tar.NewWriter(&head).WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "zeros", Mode: 0o644, Size: size}); err != nil {
		t.Fatal(err)
	}
	zero, err := os.Open("/dev/zero")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { zero.Close() })
	return io.MultiReader(&head, io.LimitReader(zero, size+1024))
}

// The names in an archive are remembered, and compress well.
func TestLoadLongNames(t *testing.T) {
	m, _ := newManager(t)
	var b bytes.Buffer
	link := tar.Header{Typeflag: tar.TypeSymlink, Name: strings.Repeat("n", 900<<10), Linkname: "x", Format: tar.FormatPAX}
	if err := tar.NewWriter(&b).WriteHeader(&link); err != nil {
		t.Fatal(err)
	}
	err := m.Load(t.Context(), bytes.NewReader(bytes.Repeat(b.Bytes(), 80)), LoadOptions{}, func(jsonstream.Message) {})
	if !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), "names are too long") {
		t.Errorf("70 MiB of names give %v", err)
	}
}

// What `docker export` writes is no image; who loads it is told what to do.
func TestLoadRootFS(t *testing.T) {
	m, _ := newManager(t)
	for name, more := range map[string]int{"": 0, "with many files": maxArchiveEntries} {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		headers := []tar.Header{
			{Typeflag: tar.TypeDir, Name: "bin/", Mode: 0o755},
			{Typeflag: tar.TypeSymlink, Name: "bin/sh", Linkname: "/bin/busybox"},
			{Typeflag: tar.TypeDir, Name: "etc/", Mode: 0o755},
			{Typeflag: tar.TypeSymlink, Name: "etc/mtab", Linkname: "../proc/mounts"},
		}
		headers = append(headers, slices.Repeat([]tar.Header{{Typeflag: tar.TypeReg, Name: "usr/x"}}, more)...)
		for _, h := range headers {
			if err := w.WriteHeader(&h); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		err := m.Load(t.Context(), &b, LoadOptions{}, func(jsonstream.Message) {})
		if !errdefs.IsInvalidArgument(err) || !strings.Contains(fault.HintOf(err), "docker import") {
			t.Errorf("a root file system %s: %v", name, err)
		}
	}
}

func TestLoadFormats(t *testing.T) {
	for _, r := range []images.Recipe{
		{Format: "docker"},
		{Format: "docker", Archive: images.Gzip},
		{Format: "docker", Archive: images.Zstd},
		{Format: "oci"},
		{Format: "oci", Layer: images.Gzip},
		{Format: "oci", Layer: images.Zstd, Archive: images.Gzip},
		{Name: "multiarch", Format: "oci", Layer: images.Gzip},
	} {
		if r.Name == "" {
			r.Name = "busybox"
		}
		r.Extra = 3
		r.Ref = "busybox:latest"
		t.Run(r.Name+"-"+r.Format+"-"+string(r.Layer)+"-"+string(r.Archive), func(t *testing.T) {
			m, dir := newManager(t)
			path := filepath.Join(dir, "archive")
			if err := r.Write(path); err != nil {
				t.Fatal(err)
			}
			loaded := load(t, m, path)
			if want := "Loaded image: busybox:latest"; !strings.Contains(loaded, want) {
				t.Errorf("messages are\n%swant %q", loaded, want)
			}
			im, err := m.store.Resolve(t.Context(), "busybox")
			if err != nil {
				t.Fatal(err)
			}
			saved := save(t, m, "busybox")
			if !bytes.Equal(saved, save(t, m, "busybox:latest")) {
				t.Error("saving twice makes different archives")
			}
			if _, err := m.store.Remove(t.Context(), "busybox", image.RemoveOptions{}); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, saved, 0o600); err != nil {
				t.Fatal(err)
			}
			load(t, m, path)
			again, err := m.store.Resolve(t.Context(), "busybox")
			if err != nil || again.ID != im.ID {
				t.Errorf("after save and load the image is %v, %v", again, err)
			}
			load(t, m, path) // what is there already
		})
	}
}

func load(t *testing.T, m *Manager, path string) string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var msgs messages
	if err := m.Load(t.Context(), f, LoadOptions{}, msgs.add); err != nil {
		t.Fatal(err)
	}
	return msgs.text()
}

func save(t *testing.T, m *Manager, refs ...string) []byte {
	t.Helper()
	a, err := m.Save(t.Context(), refs, nil)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := a.Write(t.Context(), &b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
