package layer

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/kelp-engine/kelp/test/images"
)

const opaque = "user.overlay.opaque"

func unpack(t testing.TB, stream []byte, o Options) (string, *Result, error) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "root")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if o.OpaqueXattr == "" {
		o.OpaqueXattr = opaque
	}
	res, err := Unpack(t.Context(), bytes.NewReader(stream), dir, o)
	return dir, res, err
}

func tarOf(t testing.TB, l images.Layer) []byte {
	t.Helper()
	b, err := l.Tar()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// tree lists what is below dir: kind, name, and target or content.
func listing(t testing.TB, dir string) (list []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		name, _ := filepath.Rel(dir, path)
		fi, err := d.Info()
		if err != nil {
			return err
		}
		switch {
		case isWhiteout(fi):
			name = "w " + name
		case fi.Mode()&fs.ModeSymlink != 0:
			to, _ := os.Readlink(path)
			name = "l " + name + " " + to
		case fi.IsDir():
			kind := "d "
			if n, err := unix.Getxattr(path, opaque, make([]byte, 4)); err == nil && n == 1 {
				kind = "o "
			}
			name = kind + name
		case fi.Mode().IsRegular():
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			name = fmt.Sprintf("f %s %s", name, b)
		default:
			name = "? " + name
		}
		list = append(list, name)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func file(name string) images.Entry { return images.File(name, 0o644, []byte(name)) }

func fifo(name string) images.Entry {
	e := images.File(name, 0o600, nil)
	e.Typeflag = tar.TypeFifo
	return e
}

func TestUnpack(t *testing.T) {
	for _, test := range []struct {
		name  string
		layer images.Layer
		want  []string // nil: refused
	}{
		{"empty", images.Layer{}, []string{}},
		{"parents come later or never", images.Layer{file("a/b/c"), images.Dir("a", 0o700)}, []string{"d a", "d a/b", "f a/b/c a/b/c"}},
		{"leading slash and dots", images.Layer{file("/x"), file("./y"), file("a/../z")}, []string{"f x /x", "f y ./y", "f z a/../z"}},
		{"root entry", images.Layer{images.Dir(".", 0o711), file("x")}, []string{"f x x"}},
		{
			"links",
			images.Layer{file("a"), images.Hardlink("b", "a"), images.Hardlink("d/c", "/a"), images.Symlink("s", "/etc/passwd"), images.Hardlink("t", "s")},
			[]string{"f a a", "f b a", "d d", "f d/c a", "l s /etc/passwd", "l t /etc/passwd"},
		},
		{
			"through a link inside",
			images.Layer{images.Dir("usr/lib", 0o755), images.Symlink("lib", "usr/lib"), file("lib/x")},
			[]string{"l lib usr/lib", "d usr", "d usr/lib", "f usr/lib/x lib/x"},
		},
		{"through an absolute link", images.Layer{images.Dir("usr", 0o755), images.Symlink("lib", "/usr"), file("lib/x")}, nil},
		{"through a link upwards", images.Layer{images.Symlink("up", "../.."), file("up/x")}, nil},
		{"the same file by two names", images.Layer{images.Dir("d", 0o755), images.Symlink("l", "d"), file("d/x"), images.Symlink("l/x", "/etc/passwd")}, nil},
		{"twice", images.Layer{file("x"), file("x")}, nil},
		{"twice as file and directory", images.Layer{images.Dir("x", 0o755), file("./x")}, nil},
		{"directory twice", images.Layer{images.Dir("x", 0o755), images.Dir("x", 0o700)}, nil},
		{"below a file", images.Layer{file("x"), file("x/y")}, nil},
		{
			"whiteouts",
			images.Layer{images.Whiteout("a", "gone"), images.Dir("b", 0o755), images.Opaque("b"), images.Whiteout(".", "top")},
			[]string{"d a", "w a/gone", "o b", "w top"},
		},
		{"replaced by a directory", images.Layer{images.Whiteout(".", "a"), images.Dir("a", 0o755), file("a/x")}, []string{"o a", "f a/x a/x"}},
		{"directory before its whiteout", images.Layer{images.Dir("a", 0o755), file("a/x"), images.Whiteout(".", "a")}, []string{"o a", "f a/x a/x"}},
		{"replaced by a file", images.Layer{images.Whiteout(".", "a"), file("a")}, []string{"f a a"}},
		{"file before its whiteout", images.Layer{file("a"), images.Whiteout(".", "a")}, []string{"f a a"}},
		{"below a whiteout", images.Layer{images.Whiteout(".", "a"), images.Whiteout("a", "b")}, []string{"w a"}},
		{"file below a whiteout", images.Layer{images.Whiteout(".", "a"), file("a/b")}, nil},
		{"whiteout of nothing", images.Layer{images.File(".wh.", 0, nil)}, nil},
		{"whiteout of the parent", images.Layer{images.File("a/.wh...", 0, nil)}, nil},
		{"whiteout with content", images.Layer{images.File(".wh.x", 0, []byte("x"))}, nil},
		{"of AUFS", images.Layer{images.Dir(".wh..wh.plnk", 0o755), file("x")}, []string{"f x x"}},
		{"devices", images.Layer{images.CharDevice("null", 1, 3), images.CharDevice("forged-whiteout", 0, 0), fifo("pipe")}, []string{"? pipe"}},
		{"outside", images.Layer{file("../x")}, nil},
		{"outside after a name", images.Layer{file("a/../../x")}, nil},
		{"hard link outside", images.Layer{images.Hardlink("x", "../x")}, nil},
		{"hard link to nothing", images.Layer{images.Hardlink("x", "y")}, nil},
		{"hard link to a directory", images.Layer{images.Dir("d", 0o755), images.Hardlink("x", "d")}, nil},
		{"owner that nobody has", images.Layer{file("x").Owned(1<<30, 0)}, nil},
		{"owner that no kernel knows", images.Layer{file("x").Owned(1<<32, 0)}, nil},
		{"name that is no path", images.Layer{file(strings.Repeat("n/", 2048) + "x")}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			stream := tarOf(t, test.layer)
			dir, res, err := unpack(t, stream, Options{})
			if test.want == nil {
				if err == nil || !Refused(err) {
					t.Errorf("it gives %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer res.TarSplit.Close()
			if got := listing(t, dir); !slices.Equal(got, test.want) && len(got)+len(test.want) > 0 {
				t.Errorf("there is %q, want %q", got, test.want)
			}
			if res.DiffID != digest.FromBytes(stream) || res.Size != int64(len(stream)) {
				t.Errorf("it says %s, %d bytes", res.DiffID, res.Size)
			}
			checkStream(t, dir, res, stream)
		})
	}
}

// checkStream makes the stream again.
func checkStream(t testing.TB, dir string, res *Result, want []byte) {
	t.Helper()
	if _, err := res.TarSplit.Seek(0, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	var z bytes.Buffer
	zw := gzip.NewWriter(&z)
	if _, err := io.Copy(zw, res.TarSplit); err != nil {
		t.Fatal(err)
	}
	if err := zw.Close(); err != nil {
		t.Fatal(err)
	}
	rc, err := Stream(io.NopCloser(&z), dir)
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(rc)
	if err := errors.Join(err, rc.Close()); err != nil || !bytes.Equal(got, want) {
		t.Errorf("the stream comes out different: %d bytes, want %d; %v", len(got), len(want), err)
	}
}

func TestMetadata(t *testing.T) {
	when := time.Date(2020, 1, 2, 3, 4, 5, 678, time.UTC)
	e := images.File("d/f", 0o4751, []byte("x")).Owned(7, 8)
	e.Format, e.ModTime = tar.FormatPAX, when
	e.PAXRecords = map[string]string{
		xattrPrefix + "user.mine": "1", xattrPrefix + opaque: "y", xattrPrefix + "user.overlay.redirect": "/etc", xattrPrefix + "trusted.x": "1",
		xattrPrefix + "user.fuseoverlayfs.opaque": "y",
	}
	d := images.Dir("d", 0o1770).Owned(9, 10)
	d.ModTime = when.Truncate(time.Second)
	dir, res, err := unpack(t, tarOf(t, images.Layer{d, e}), Options{})
	if err != nil {
		t.Fatal(err)
	}
	res.TarSplit.Close()
	var st unix.Stat_t
	path := filepath.Join(dir, "d/f")
	if err := unix.Lstat(path, &st); err != nil || st.Mode&0o7777 != 0o4751 || st.Uid != 7 || st.Gid != 8 || st.Mtim.Sec != when.Unix() || st.Mtim.Nsec != 678 {
		t.Errorf("file: %+v, %v", st, err)
	}
	b := make([]byte, 256)
	n, err := unix.Llistxattr(path, b)
	if err != nil || string(b[:n]) != "user.mine\x00" {
		t.Errorf("attributes: %q, %v", b[:n], err)
	}
	if err := unix.Lstat(filepath.Join(dir, "d"), &st); err != nil || st.Mode&0o7777 != 0o1770 || st.Uid != 9 || st.Mtim.Sec != when.Unix() {
		t.Errorf("directory: %+v, %v", st, err)
	}
	if !slices.Equal(res.UIDs, []uint32{7, 9}) || !slices.Equal(res.GIDs, []uint32{8, 10}) {
		t.Errorf("owners are %v, %v", res.UIDs, res.GIDs)
	}
}

func TestLimits(t *testing.T) {
	if _, _, err := unpack(t, tarOf(t, images.Layer{file("a"), file("b")}), Options{Limits: Limits{Entries: 1}}); !Refused(err) {
		t.Errorf("too many entries give %v", err)
	}
	if _, _, err := unpack(t, tarOf(t, images.Layer{file("a")}), Options{Limits: Limits{Entries: 9, Reserve: 1 << 60}}); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("a full disk gives %v", err)
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "huge", Size: 1 << 50}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := unpack(t, b.Bytes(), Options{}); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("a file larger than the disk gives %v", err)
	}
	if _, _, err := unpack(t, append(tarOf(t, images.Layer{file("a")}), make([]byte, maxPadding+1)...), Options{}); !Refused(err) {
		t.Errorf("endless padding gives %v", err)
	}
	if _, _, err := unpack(t, tarOf(t, images.Layer{images.File("a", 0o644, make([]byte, 1000))})[:700], Options{}); err == nil {
		t.Error("a stream cut short is unpacked")
	}
}

// FuzzUnpack feeds anything as a layer: it must stay inside and, when it is
// taken, come out again as it was.
func FuzzUnpack(f *testing.F) {
	f.Add(tarOf(f, images.Layer{images.Dir("d", 0o755), file("d/x"), images.Symlink("l", "d"), images.Hardlink("h", "d/x"), images.Whiteout("d", "y"), images.Opaque("d")}))
	f.Add(tarOf(f, images.Layer{images.Symlink("l", "/tmp"), file("l/x")}))
	f.Fuzz(func(t *testing.T, stream []byte) {
		dir, res, err := unpack(t, stream, Options{Limits: Limits{Entries: 100, Reserve: 1 << 20}})
		if entries, _ := os.ReadDir(filepath.Dir(dir)); len(entries) != 1 {
			t.Errorf("it left its directory: %v", entries)
		}
		if err != nil {
			return
		}
		defer res.TarSplit.Close()
		if !strings.Contains(string(stream), ".wh..wh.") { // AUFS's files are not kept
			checkStream(t, dir, res, stream)
		}
	})
}
