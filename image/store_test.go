package image

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/container"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/kelp-engine/kelp/test/images"
)

// open opens a store in a new directory.
func open(t testing.TB, driver string) *Store {
	t.Helper()
	return reopen(t, t.TempDir(), driver)
}

func reopen(t testing.TB, dir, driver string) *Store {
	t.Helper()
	s, err := Open(Options{GraphRoot: filepath.Join(dir, "root"), RunRoot: filepath.Join(dir, "run"), Driver: driver})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := s.store.Shutdown(true); err != nil {
			t.Error(err)
		}
	})
	return s
}

// put stores an image of the layers under the names.
func put(t testing.TB, s *Store, layers []images.Layer, names ...string) *Image {
	t.Helper()
	im, err := add(t, s, layers, names...)
	if err != nil {
		t.Fatal(err)
	}
	return im
}

func add(t testing.TB, s *Store, layers []images.Layer, names ...string) (*Image, error) {
	t.Helper()
	doc := imageDocument{Image: ocispec.Image{Platform: hostPlatform(), RootFS: ocispec.RootFS{Type: "layers"}}}
	staged := map[digest.Digest]*Staged{}
	for _, l := range layers {
		st, err := s.Stage(t.Context(), bytes.NewReader(tarOf(t, l)))
		if err != nil {
			return nil, err
		}
		defer st.Discard()
		if staged[st.DiffID] == nil {
			staged[st.DiffID] = st
		}
		doc.RootFS.DiffIDs = append(doc.RootFS.DiffIDs, st.DiffID)
	}
	raw, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	draft := Draft{Config: raw}
	for _, n := range names {
		named, err := reference.ParseNormalizedNamed(n)
		if err != nil {
			t.Fatal(err)
		}
		draft.Names = append(draft.Names, reference.TagNameOnly(named))
	}
	return s.Assemble(t.Context(), draft, staged)
}

func tarOf(t testing.TB, l images.Layer) []byte {
	t.Helper()
	b, err := l.Tar()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

var simple = []images.Layer{
	{images.Dir("etc", 0o755), images.File("etc/a", 0o644, []byte("one")), images.File("etc/b", 0o640, []byte("two")).Owned(7, 8), images.Symlink("abs", "/etc/a"), images.Hardlink("hard", "etc/a")},
	{images.Dir("etc", 0o755), images.Whiteout("etc", "a"), images.Dir("new", 0o700), images.File("new/c", 0o4755, bytes.Repeat([]byte("x"), 300<<10))},
}

func TestLayersAndRootFS(t *testing.T) {
	for _, driver := range []string{"overlay", "vfs"} {
		t.Run(driver, func(t *testing.T) {
			s := open(t, driver)
			im := put(t, s, simple, "app")
			infos, err := s.Layers(im)
			if err != nil {
				t.Fatal(err)
			}
			for i, l := range infos {
				rc, err := s.OpenLayer(l)
				if err != nil {
					t.Fatal(err)
				}
				got, err := io.ReadAll(rc)
				if err := errors.Join(err, rc.Close()); err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(got, tarOf(t, simple[i])) {
					t.Errorf("layer %d comes out different: %d bytes, want %d", i, len(got), len(tarOf(t, simple[i])))
				}
			}
			if err := s.CreateRootFS(t.Context(), "c1", im.ID, false, Shift{}); err != nil {
				t.Fatal(err)
			}
			if err := s.CreateRootFS(t.Context(), "c1", im.ID, false, Shift{}); err != nil {
				t.Errorf("making it again: %v", err)
			}
			dir, err := s.MountRootFS("c1")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := os.Lstat(filepath.Join(dir, "etc/a")); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the whiteout does not hide etc/a: %v", err)
			}
			if b, err := os.ReadFile(filepath.Join(dir, "etc/b")); err != nil || string(b) != "two" {
				t.Errorf("etc/b: %q, %v", b, err)
			}
			if fi, err := os.Stat(filepath.Join(dir, "new/c")); err != nil || fi.Mode()&os.ModeSetuid == 0 || fi.Mode().Perm() != 0o755 {
				t.Errorf("new/c: %v %v", fi, err)
			}
			write(t, filepath.Join(dir, "etc/resolv.conf"), "")
			if ch := changes(t, s, "c1"); len(ch) != 0 {
				t.Errorf("mount points count as changes: %v", ch)
			}
			write(t, filepath.Join(dir, "new/d"), "hello")
			if err := os.Remove(filepath.Join(dir, "etc/b")); err != nil {
				t.Fatal(err)
			}
			want := []string{"C /etc", "D /etc/b", "C /new", "A /new/d"}
			if ch := changes(t, s, "c1"); !slices.Equal(ch, want) {
				t.Errorf("changes are %v, want %v", ch, want)
			}
			testCommit(t, s)
			if err := s.RemoveRootFS("c1"); err != nil {
				t.Fatal(err)
			}
			if err := s.RemoveRootFS("c1"); err != nil {
				t.Errorf("removing it again: %v", err)
			}
		})
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func changes(t *testing.T, s *Store, id string) (list []string) {
	t.Helper()
	ch, err := s.Changes(id)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range ch {
		list = append(list, c.Kind.String()+" "+c.Path)
	}
	return list
}

func testCommit(t *testing.T, s *Store) {
	id, err := s.Commit(t.Context(), "c1", CommitOptions{
		Reference: "app:two", Comment: "hi", Changes: []string{`CMD ["sleep", "1"]`, "ENV A=1 B='2 3'"},
		Container: &container.Config{Env: []string{"A=0", "C=4"}, Cmd: []string{"sh"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	im, err := s.Resolve(t.Context(), "app:two")
	if err != nil {
		t.Fatal(err)
	}
	if im.ID != id || im.Parent == "" || len(im.DiffIDs) != 3 || !slices.Equal(im.Config.Cmd, []string{"sleep", "1"}) ||
		!slices.Equal(im.Config.Env, []string{"B=2 3", "A=1", "C=4"}) {
		t.Errorf("committed image is %+v", im)
	}
	infos, err := s.Layers(im)
	if err != nil {
		t.Fatal(err)
	}
	rc, err := s.OpenLayer(infos[2])
	if err != nil {
		t.Fatal(err)
	}
	defer rc.Close()
	var names []string
	for tr := tar.NewReader(rc); ; {
		h, err := tr.Next()
		if err != nil {
			break
		}
		names = append(names, h.Name)
	}
	slices.Sort(names)
	if want := []string{"etc/", "etc/.wh.b", "new/", "new/d"}; !slices.Equal(names, want) {
		t.Errorf("committed layer holds %q, want %q", names, want)
	}
}
