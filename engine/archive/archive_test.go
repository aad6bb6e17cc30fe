package archive

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/kelp-engine/kelp/engine/mounts"
)

// tree makes a container's root of the entries, each "name" for a directory
// with a final slash, "name -> target" for a link, or "name=content".
func tree(t *testing.T, entries ...string) (*Tree, string) {
	t.Helper()
	dir := t.TempDir()
	for _, e := range entries {
		name, content, isFile := strings.Cut(e, "=")
		link, to, isLink := strings.Cut(e, " -> ")
		var err error
		switch {
		case isLink:
			err = os.Symlink(to, filepath.Join(dir, link))
		case isFile:
			if err = os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err == nil {
				err = os.WriteFile(filepath.Join(dir, name), []byte(content), 0o640)
			}
		default:
			err = os.MkdirAll(filepath.Join(dir, name), 0o755)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	root, err := openDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	tr := &Tree{name: "c", root: root}
	t.Cleanup(func() { tr.Close() })
	return tr, dir
}

func TestStat(t *testing.T) {
	tr, _ := tree(t, "a/f=12345", "abs -> /a/f", "up -> ../../../../a", "out -> /etc/shadow", "loop -> loop", "chain -> up/f")
	for _, tt := range []struct{ path, name, target, err string }{
		{path: "/a/f", name: "f"},
		{path: "a/f", name: "f"},
		{path: "/a/../a/./f", name: "f"},
		{path: "/", name: "/"},
		{path: "/a/", name: "a"},
		{path: "/abs", name: "abs", target: "/a/f"},
		{path: "/up", name: "up", target: "/a"},
		{path: "/up/", name: "up"},
		{path: "/up/f", name: "f"},
		{path: "/chain", name: "chain", target: "/a/f"},
		{path: "/out", name: "out", target: "/etc/shadow"},
		{path: "/out/.", err: "Could not find the file /out/. in container c"},
		{path: "/nosuch", err: "Could not find the file /nosuch in container c"},
		{path: "/a/f/x", err: "Could not find the file /a/f/x in container c"},
		{path: "/loop/", err: "too many levels"},
	} {
		t.Run(tt.path, func(t *testing.T) {
			st, err := tr.Stat(tt.path)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("error %v, want %s", err, tt.err)
				}
				return
			}
			if err != nil || st.Name != tt.name || st.LinkTarget != tt.target {
				t.Errorf("got %+v, %v", st, err)
			}
		})
	}
}

// packed lists the names in the archive of a path, with the targets of links.
func packed(t *testing.T, tr *Tree, path string) []string {
	t.Helper()
	var b bytes.Buffer
	if err := tr.Pack(t.Context(), &b, path); err != nil {
		t.Fatal(err)
	}
	var names []string
	r := tar.NewReader(&b)
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return names
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Linkname != "" {
			h.Name += " -> " + h.Linkname
		}
		names = append(names, h.Name)
	}
}

func TestPack(t *testing.T) {
	tr, dir := tree(t, "a/b/f=x", "a/link -> /etc/passwd", "to-a -> a")
	if err := os.Link(filepath.Join(dir, "a/b/f"), filepath.Join(dir, "a/hard")); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		path string
		want []string
	}{
		{"/a", []string{"a/", "a/b/", "a/b/f", "a/hard -> a/b/f", "a/link -> /etc/passwd"}},
		{"/a/b/", []string{"b/", "b/f"}},
		{"/a/b/.", []string{"./", "./f"}},
		{"/a/b/f", []string{"f"}},
		{"/to-a", []string{"to-a -> a"}},
		{"/to-a/b", []string{"b/", "b/f"}},
		{"/a/link", []string{"link -> /etc/passwd"}},
		{"/", []string{"/", "/a/", "/a/b/", "/a/b/f", "/a/hard -> /a/b/f", "/a/link -> /etc/passwd", "/to-a -> a"}},
	} {
		t.Run(tt.path, func(t *testing.T) {
			if got := packed(t, tr, tt.path); !slices.Equal(got, tt.want) {
				t.Errorf("got %q\nwant %q", got, tt.want)
			}
		})
	}
}

// archive of headers; regular files have their name as content.
func archive(t *testing.T, hdrs ...tar.Header) io.Reader {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range hdrs {
		if h.Typeflag == 0 {
			h.Typeflag = tar.TypeReg
		}
		if h.Typeflag == tar.TypeReg {
			h.Size = int64(len(h.Name))
		}
		if h.Mode == 0 {
			h.Mode = 0o644
		}
		h.Uid, h.Gid = os.Getuid(), os.Getgid()
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			if _, err := w.Write([]byte(h.Name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return &b
}

func TestExtractKeepsWhatTheArchiveSays(t *testing.T) {
	tr, dir := tree(t, "d/old/x=1", "d/file=1", "real/", "d/way -> /real")
	at := time.Unix(1_000_000_000, 0)
	err := tr.Extract(t.Context(), archive(
		t,
		tar.Header{Name: "./", Typeflag: tar.TypeDir, Mode: 0o700},
		tar.Header{Name: "sub/", Typeflag: tar.TypeDir, Mode: 0o2750, ModTime: at},
		tar.Header{Name: "sub/f", Mode: 0o4755, ModTime: at},
		tar.Header{Name: "sub/hard", Typeflag: tar.TypeLink, Linkname: "sub/f"},
		tar.Header{Name: "sub/sym", Typeflag: tar.TypeSymlink, Linkname: "../../../../etc/passwd"},
		tar.Header{Name: "deep/er/f"},
		tar.Header{Name: "way/through"},
		tar.Header{Name: "old"},
		tar.Header{Name: "file", Typeflag: tar.TypeDir, Mode: 0o755},
		tar.Header{Name: "pipe", Typeflag: tar.TypeFifo},
	), "/d", ExtractOptions{MaxID: 65536})
	if err != nil {
		t.Fatal(err)
	}
	sub, err := os.Stat(dir + "/d/sub")
	if err != nil || sub.Mode() != os.ModeDir|os.ModeSetgid|0o750 || !sub.ModTime().Equal(at) {
		t.Errorf("sub: %v %v, %v", sub.Mode(), sub.ModTime(), err)
	}
	f, err := os.Stat(dir + "/d/sub/f")
	if err != nil || f.Mode() != os.ModeSetuid|0o755 || !f.ModTime().Equal(at) {
		t.Errorf("sub/f: %v %v, %v", f.Mode(), f.ModTime(), err)
	}
	if hard, err := os.Stat(dir + "/d/sub/hard"); err != nil || !os.SameFile(f, hard) {
		t.Errorf("the hard link is no link: %v", err)
	}
	for name, want := range map[string]string{"d/deep/er/f": "deep/er/f", "real/through": "way/through", "d/old": "old"} {
		if b, err := os.ReadFile(filepath.Join(dir, name)); string(b) != want {
			t.Errorf("%s: %q, %v", name, b, err)
		}
	}
	if info, err := os.Stat(dir + "/d/file"); err != nil || !info.IsDir() {
		t.Errorf("a directory does not take a file's place: %v", err)
	}
	if info, err := os.Stat(dir + "/d"); err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("the destination's own mode changed: %v, %v", info.Mode(), err)
	}
}

func TestExtractNeverLeavesTheContainer(t *testing.T) {
	for _, tt := range []struct {
		name string
		hdrs []tar.Header
		err  string // "" is no error
	}{
		{"parent", []tar.Header{{Name: "../evil"}}, "outside of the directory"},
		{"hidden parent", []tar.Header{{Name: "a/../../evil"}}, "outside of the directory"},
		{"absolute", []tar.Header{{Name: "/../../evil"}}, "outside of the directory"},
		{"through an absolute link", []tar.Header{{Name: "l", Typeflag: tar.TypeSymlink, Linkname: "/OUT"}, {Name: "l/evil"}}, "something else is in its place"},
		{"through a relative link", []tar.Header{{Name: "l", Typeflag: tar.TypeSymlink, Linkname: "../../../../../../../../../../OUT"}, {Name: "l/evil"}}, "something else is in its place"},
		{"through links to links", []tar.Header{{Name: "a", Typeflag: tar.TypeSymlink, Linkname: "/OUT"}, {Name: "b", Typeflag: tar.TypeSymlink, Linkname: "a"}, {Name: "b/evil"}}, "something else is in its place"},
		{"over a link", []tar.Header{{Name: "l", Typeflag: tar.TypeSymlink, Linkname: "/OUT/kept"}, {Name: "l"}}, ""},
		{"hard link to the outside", []tar.Header{{Name: "h", Typeflag: tar.TypeLink, Linkname: "../../OUT/kept"}, {Name: "h"}}, "outside of the directory"},
		{"hard link through a link", []tar.Header{{Name: "l", Typeflag: tar.TypeSymlink, Linkname: "/OUT"}, {Name: "h", Typeflag: tar.TypeLink, Linkname: "l/kept"}}, "cannot"},
		{"device", []tar.Header{{Name: "dev", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 3}}, "is a device"},
		{"unknown type", []tar.Header{{Name: "x", Typeflag: 'Z'}}, "unknown type"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tr, dir := tree(t, "d/")
			out := t.TempDir()
			if err := os.WriteFile(out+"/kept", []byte("kept"), 0o600); err != nil {
				t.Fatal(err)
			}
			for i := range tt.hdrs {
				tt.hdrs[i].Linkname = strings.ReplaceAll(tt.hdrs[i].Linkname, "/OUT", out)
			}
			err := tr.Extract(t.Context(), archive(t, tt.hdrs...), "/d", ExtractOptions{MaxID: 65536})
			if tt.err == "" && err != nil || tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)) {
				t.Errorf("error %v, want %q", err, tt.err)
			}
			if _, err := os.Lstat(out + "/evil"); err == nil {
				t.Error("it wrote outside of the container")
			}
			if b, _ := os.ReadFile(out + "/kept"); string(b) != "kept" {
				t.Errorf("it changed a file outside of the container: %q", b)
			}
			if _, err := os.Lstat(filepath.Dir(dir) + "/evil"); err == nil {
				t.Error("it wrote beside the container")
			}
		})
	}
}

func TestExtractRefuses(t *testing.T) {
	points := []mounts.Point{{Target: "/ro", ReadOnly: true}, {Target: "/ro/rw"}}
	for _, tt := range []struct {
		name, dir, err string
		readOnly       bool
		o              ExtractOptions
		hdr            tar.Header
		is             func(error) bool
	}{
		{name: "missing directory", dir: "/nosuch", err: "Could not find the file /nosuch in container c", is: errdefs.IsNotFound},
		{name: "a file", dir: "/file", err: "extraction point is not a directory", is: errdefs.IsInvalidArgument},
		{name: "read-only root", dir: "/d", readOnly: true, err: "container rootfs is marked read-only", is: errdefs.IsPermissionDenied},
		{name: "read-only volume", dir: "/ro/sub", err: "mounted volume is marked read-only", is: errdefs.IsPermissionDenied},
		{name: "read-only volume by a link", dir: "/to-ro", err: "mounted volume is marked read-only", is: errdefs.IsPermissionDenied},
		{name: "file over directory", dir: "/", o: ExtractOptions{KeepTypes: true, MaxID: 65536}, hdr: tar.Header{Name: "d"}, err: `cannot overwrite directory "d" with non-directory`, is: errdefs.IsInvalidArgument},
		{name: "directory over file", dir: "/", o: ExtractOptions{KeepTypes: true, MaxID: 65536}, hdr: tar.Header{Name: "file", Typeflag: tar.TypeDir}, err: `cannot overwrite non-directory "file" with directory`, is: errdefs.IsInvalidArgument},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tr, dir := tree(t, "d/x=1", "file=1", "ro/sub/", "ro/rw/", "to-ro -> /ro/sub")
			tr.points, tr.readOnly = points, tt.readOnly
			if tt.hdr.Name == "" {
				tt.hdr.Name = "new"
			}
			err := tr.Extract(t.Context(), archive(t, tt.hdr), tt.dir, tt.o)
			if err == nil || !strings.Contains(err.Error(), tt.err) || !tt.is(err) {
				t.Errorf("error %v, want %s", err, tt.err)
			}
			if b, _ := os.ReadFile(dir + "/d/x"); string(b) != "1" {
				t.Error("a file is lost")
			}
		})
	}
	tr, _ := tree(t, "ro/rw/")
	tr.points, tr.readOnly = points, true
	if err := tr.Extract(t.Context(), archive(t, tar.Header{Name: "new"}), "/ro/rw", ExtractOptions{MaxID: 65536}); err != nil {
		t.Errorf("a writable volume in a read-only one: %v", err)
	}
}

func TestExtractOfABrokenArchive(t *testing.T) {
	for name, body := range map[string]string{"no archive": "hello, this is no tar archive at all" + strings.Repeat("x", 600), "broken gzip": "\x1f\x8bxx"} {
		t.Run(name, func(t *testing.T) {
			tr, _ := tree(t, "d/")
			if err := tr.Extract(t.Context(), strings.NewReader(body), "/d", ExtractOptions{MaxID: 65536}); !errdefs.IsInvalidArgument(err) {
				t.Errorf("error %v", err)
			}
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	tr, _ := tree(t, "d/")
	if err := tr.Extract(ctx, archive(t, tar.Header{Name: "f"}), "/d", ExtractOptions{MaxID: 65536}); !errors.Is(err, context.Canceled) {
		t.Errorf("a client that is gone: %v", err)
	}
}

func TestOwnersThatAreNotMapped(t *testing.T) {
	var got [2]int
	x := extractor{tree: &Tree{}, o: ExtractOptions{MaxID: 65536}}
	err := x.chown(&tar.Header{Uid: 1234567, Gid: 5}, func(uid, gid int) error { got = [2]int{uid, gid}; return nil })
	if err != nil || got != [2]int{0, 5} {
		t.Errorf("owner %v, %v; want root and group 5", got, err)
	}
	x.o.Owner = &Owner{UID: 8, GID: 12}
	if err := x.chown(&tar.Header{Uid: 7}, func(uid, gid int) error { got = [2]int{uid, gid}; return nil }); err != nil || got != [2]int{8, 12} {
		t.Errorf("owner %v, %v; want the container's user", got, err)
	}
}
