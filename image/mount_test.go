package image

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// overlayAt returns the options of the overlay mounted at a path, "" without
// one.
func overlayAt(t *testing.T, path string) (options string) {
	t.Helper()
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); f[4] == path {
			n++
			options = f[len(f)-1]
		}
	}
	if n > 1 {
		t.Errorf("%d overlays lie on each other at %s", n, path)
	}
	return options
}

// Who mounts finds the root file system mounted, in the same way each time,
// whatever others do with it meanwhile.
func TestMountsAtTheSameTime(t *testing.T) {
	const users, rounds = 6, 20
	for _, temporary := range []bool{false, true} {
		t.Run(fmt.Sprint("temporary=", temporary), func(t *testing.T) {
			s := open(t, "overlay")
			im := put(t, s, simple, "app")
			if err := s.CreateRootFS(t.Context(), "c1", im.ID, temporary, Shift{}); err != nil {
				t.Fatal(err)
			}
			var wg sync.WaitGroup
			for range users {
				wg.Go(func() {
					for range rounds {
						dir, err := s.MountRootFS("c1")
						if err != nil {
							t.Error(err)
							return
						}
						if b, err := os.ReadFile(filepath.Join(dir, "etc/b")); err != nil || string(b) != "two" {
							t.Errorf("etc/b: %q, %v", b, err)
						}
						if options := overlayAt(t, dir); strings.Contains(options, "volatile") != temporary {
							t.Errorf("mounted with %q", options)
						}
						if err := s.UnmountRootFS("c1"); err != nil {
							t.Error(err)
						}
					}
				})
			}
			wg.Wait()
			l, err := s.store.Layer("c1")
			if err != nil {
				t.Fatal(err)
			}
			if options := overlayAt(t, l.MountPoint); options != "" {
				t.Errorf("still mounted: %s", options)
			}
		})
	}
}
