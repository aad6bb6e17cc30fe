package image

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/kelp-engine/kelp/userns/reserve"
)

// TestRemoveFromFullDisk fills the disk from inside a container: it and its
// image can be removed, one after the other.
func TestRemoveFromFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=128m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	spare := reserve.In(dir)
	s, err := Open(Options{GraphRoot: filepath.Join(dir, "storage"), RunRoot: t.TempDir(), Reserve: spare})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	im := put(t, s, simple, "app")
	if err := s.CreateRootFS(t.Context(), "c1", im.ID, true, Shift{}); err != nil {
		t.Fatal(err)
	}
	if err := spare.Fill(); err != nil {
		t.Fatal(err)
	}
	fill(t, filepath.Join(dir, "other"))
	if err := s.RemoveRootFS("c1"); err != nil {
		t.Error(err)
	}
	fill(t, filepath.Join(dir, "more"))
	if _, err := s.Remove(t.Context(), "app", RemoveOptions{}); err != nil {
		t.Error(err)
	}
	if !spare.Room() {
		t.Error("there is no room for a start")
	}
}

// fill takes all the space that is left.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, chunk := range [][]byte{make([]byte, 1<<20), make([]byte, 4096)} {
		for err == nil {
			_, err = f.Write(chunk)
		}
		if !errors.Is(err, unix.ENOSPC) {
			t.Fatal(err)
		}
		err = nil
	}
}
