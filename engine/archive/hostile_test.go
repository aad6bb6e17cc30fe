package archive

import (
	"archive/tar"
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestAContainerThatSwapsDirectoriesForLinks holds that neither way of
// copying ever leaves the container while its processes move things about.
func TestAContainerThatSwapsDirectoriesForLinks(t *testing.T) {
	tr, dir := tree(t, "d/f=inner", "swap/f=inner")
	out := t.TempDir()
	if err := os.WriteFile(out+"/f", []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(out, dir+"/link"); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithTimeout(t.Context(), time.Second)
	swapped := make(chan struct{})
	go func() { // the container's process
		defer close(swapped)
		for ctx.Err() == nil {
			_ = os.Rename(dir+"/d", dir+"/away")
			_ = os.Rename(dir+"/link", dir+"/d")
			_ = os.Rename(dir+"/d", dir+"/link")
			_ = os.Rename(dir+"/away", dir+"/d")
		}
	}()
	defer func() { stop(); <-swapped }()
	entries := archive(t, tar.Header{Name: "d/evil"}, tar.Header{Name: "d/sub/", Typeflag: tar.TypeDir, Mode: 0o755}, tar.Header{Name: "d/sub/evil"})
	content := new(bytes.Buffer)
	if _, err := content.ReadFrom(entries); err != nil {
		t.Fatal(err)
	}
	for ctx.Err() == nil {
		var b bytes.Buffer
		_ = tr.Pack(t.Context(), &b, "/d/f")
		_ = tr.Pack(t.Context(), &b, "/d")
		_ = tr.Pack(t.Context(), &b, "/")
		if strings.Contains(b.String(), "secret") {
			t.Fatal("it read a file outside of the container")
		}
		_ = tr.Extract(t.Context(), bytes.NewReader(content.Bytes()), "/", ExtractOptions{MaxID: 65536})
	}
	left, err := os.ReadDir(out)
	if err != nil || len(left) != 1 {
		t.Errorf("it wrote outside of the container: %v, %v", left, err)
	}
}

// FuzzExtract feeds archives made of arbitrary bytes, and holds that nothing
// outside of the container changes.
func FuzzExtract(f *testing.F) {
	seed := func(hdrs ...tar.Header) {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		for _, h := range hdrs {
			_ = w.WriteHeader(&h)
		}
		_ = w.Close()
		f.Add(b.Bytes())
	}
	seed(tar.Header{Name: "a/b", Typeflag: tar.TypeReg})
	seed(tar.Header{Name: "l", Typeflag: tar.TypeSymlink, Linkname: "../.."}, tar.Header{Name: "l/x", Typeflag: tar.TypeReg})
	seed(tar.Header{Name: "h", Typeflag: tar.TypeLink, Linkname: "/etc/passwd"})
	seed(tar.Header{Name: "x", Typeflag: tar.TypeReg, PAXRecords: map[string]string{"SCHILY.xattr.user.a": "b"}, Format: tar.FormatPAX})
	f.Fuzz(func(t *testing.T, b []byte) {
		top := t.TempDir()
		dir := filepath.Join(top, "root")
		if err := os.MkdirAll(dir+"/d", 0o755); err != nil {
			t.Fatal(err)
		}
		root, err := openDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		tr := &Tree{name: "c", root: root}
		defer tr.Close()
		_ = tr.Extract(t.Context(), bytes.NewReader(b), "/d", ExtractOptions{MaxID: 65536})
		if left, err := os.ReadDir(top); err != nil || len(left) != 1 {
			t.Errorf("beside the container: %v, %v", left, err)
		}
	})
}
