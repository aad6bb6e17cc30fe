package image

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/moby/moby/api/types/container"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/kelp-engine/kelp/engine/filter"
)

// keptAs1000 is the shift of a container where the user is 1000.
var keptAs1000 = func() Shift {
	ids := []specs.LinuxIDMapping{{HostID: 1, Size: 1000}, {ContainerID: 1000, HostID: 0, Size: 1}, {ContainerID: 1001, HostID: 1001, Size: 1000}}
	return Shift{Users: ids, Groups: ids}
}()

func create(t *testing.T, s *Store, im *Image, names ...string) {
	t.Helper()
	made := make(chan error)
	for _, name := range names {
		go func() { made <- s.CreateRootFS(t.Context(), name, im.ID, false, keptAs1000) }()
	}
	for range names {
		if err := <-made; err != nil {
			t.Fatal(err)
		}
	}
}

// layerCount checks how many layers there are.
func layerCount(t *testing.T, s *Store, when string, want int) {
	t.Helper()
	if list, err := s.store.Layers(); err != nil || len(list) != want {
		t.Errorf("%s: %d layers, want %d; %v", when, len(list), want, err)
	}
}

func owner(t *testing.T, path string) (uid, gid uint32) {
	t.Helper()
	info, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	st := info.Sys().(*syscall.Stat_t)
	return st.Uid, st.Gid
}

func TestShiftedRootFS(t *testing.T) {
	for _, driver := range []string{"overlay", "vfs"} {
		t.Run(driver, func(t *testing.T) {
			dir := t.TempDir()
			s := reopen(t, dir, driver)
			im := put(t, s, simple, "app")
			create(t, s, im, "c1", "c2", "c3")
			layerCount(t, s, "three containers", 2+1+3)
			testShiftedFiles(t, s)
			for _, c := range []string{"c1", "c2", "c3"} {
				if err := s.RemoveRootFS(c); err != nil {
					t.Fatal(err)
				}
			}
			s = reopen(t, dir, driver)
			layerCount(t, s, "no container, after a restart", 3)
			create(t, s, im, "c4")
			layerCount(t, s, "another container", 4)
		})
	}
}

// testShiftedFiles looks at the container c1.
func testShiftedFiles(t *testing.T, s *Store) {
	root, err := s.MountRootFS("c1")
	if err != nil {
		t.Fatal(err)
	}
	if uid, gid := owner(t, root); uid != 1 || gid != 1 {
		t.Errorf("/ belongs to %d:%d", uid, gid)
	}
	if uid, gid := owner(t, filepath.Join(root, "etc/b")); uid != 8 || gid != 9 {
		t.Errorf("etc/b belongs to %d:%d", uid, gid)
	}
	if info, err := os.Stat(filepath.Join(root, "new/c")); err != nil || info.Mode()&os.ModeSetuid == 0 {
		t.Errorf("new/c: %v, %v", info, err)
	}
	if ch := changes(t, s, "c1"); len(ch) != 0 {
		t.Errorf("changes of an unused container: %v", ch)
	}
	write(t, filepath.Join(root, "new/d"), "mine")
	if ch := changes(t, s, "c1"); !slices.Equal(ch, []string{"C /new", "A /new/d"}) {
		t.Errorf("changes: %v", ch)
	}
	if _, err := s.Commit(t.Context(), "c1", CommitOptions{Reference: "made", Container: &container.Config{}}); err != nil {
		t.Fatal(err)
	}
	made, err := s.Resolve(t.Context(), "made")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.CreateRootFS(t.Context(), "plain", made.ID, false, Shift{}); err != nil {
		t.Fatal(err)
	}
	plain, err := s.MountRootFS("plain")
	if err != nil {
		t.Fatal(err)
	}
	if uid, gid := owner(t, filepath.Join(plain, "new/d")); uid != 1000 || gid != 1000 {
		t.Errorf("new/d was committed with the owner %d:%d", uid, gid)
	}
	if uid, gid := owner(t, filepath.Join(plain, "etc/b")); uid != 7 || gid != 8 {
		t.Errorf("etc/b of the image committed belongs to %d:%d", uid, gid)
	}
	if err := s.RemoveRootFS("plain"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Remove(t.Context(), "made", RemoveOptions{NoPrune: true}); err != nil {
		t.Fatal(err)
	}
	other, err := s.MountRootFS("c2")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(other, "new/d")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a container sees what another one wrote: %v", err)
	}
}

func TestShiftedCopiesGo(t *testing.T) {
	dir := t.TempDir()
	s := reopen(t, dir, "overlay")
	im := put(t, s, simple, "app")
	size := im.Size
	usage := func(when string, total, reclaimable int64) {
		t.Helper()
		if u, err := s.Usage(t.Context(), false); err != nil || u.TotalSize != total || u.Reclaimable != reclaimable {
			t.Errorf("%s: %+v, %v; want a size of %d and %d to reclaim", when, u, err, total, reclaimable)
		}
	}
	usage("no copy", size, size)
	create(t, s, im, "c")
	usage("a copy in use", 2*size, size)
	report, err := s.Prune(t.Context(), filter.Args{})
	if err != nil || report.SpaceReclaimed != 0 {
		t.Errorf("prune with a copy in use: %+v, %v", report, err)
	}
	if err := s.RemoveRootFS("c"); err != nil {
		t.Fatal(err)
	}
	usage("a copy", 2*size, 2*size)
	if report, err = s.Prune(t.Context(), filter.Args{}); err != nil || report.SpaceReclaimed != uint64(size) || len(report.ImagesDeleted) != 1 {
		t.Errorf("prune: %+v, %v", report, err)
	}
	layerCount(t, s, "after prune", 2)

	create(t, s, im, "c")
	if _, err := s.Remove(t.Context(), "app", RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	layerCount(t, s, "the image removed under a container", 4)
	if err := s.RemoveRootFS("c"); err != nil {
		t.Fatal(err)
	}
	s = reopen(t, dir, "overlay")
	layerCount(t, s, "after a restart", 0)

	im = put(t, s, simple, "app")
	create(t, s, im, "c")
	if err := s.RemoveRootFS("c"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Remove(t.Context(), "app", RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	layerCount(t, s, "the image and its copy removed", 0)

	im = put(t, s, simple, "app")
	create(t, s, im, "c")
	list, err := s.store.Layers()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range list {
		if isShifted(&l) {
			if err := s.store.SetMetadata(l.ID, ""); err != nil {
				t.Fatal(err)
			}
		}
	}
	s = reopen(t, dir, "overlay")
	layerCount(t, s, "a copy that may be torn, and a container on it", 4)
	if err := s.RemoveRootFS("c"); err != nil {
		t.Fatal(err)
	}
	s = reopen(t, dir, "overlay")
	layerCount(t, s, "a copy that may be torn", 2)
}
