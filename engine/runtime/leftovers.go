package runtime

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// isContainer says whether a cgroup has a name that the engine gives.
func isContainer(name string) bool {
	return len(name) == 64 && strings.Trim(name, "0123456789abcdef") == ""
}

// RemoveCgroups removes the cgroups of containers in dir that an earlier
// keeper left behind, with the processes in them: those that had lost the
// parent-death signal by executing a setuid program.
func RemoveCgroups(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot look for left over cgroups: %w", err)
	}
	var errs []error
	for _, e := range entries {
		if e.IsDir() && isContainer(e.Name()) {
			errs = append(errs, removeCgroup(filepath.Join(dir, e.Name())))
		}
	}
	return errors.Join(errs...)
}

func removeCgroup(dir string) error {
	// Missing before Linux 5.14: then a cgroup with processes stays.
	if f, err := os.OpenFile(filepath.Join(dir, "cgroup.kill"), os.O_WRONLY, 0); err == nil {
		_, _ = f.WriteString("1")
		f.Close()
	}
	var err error
	for range 500 { // killed processes take a moment to go
		if err = removeBelow(dir); err == nil {
			return nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	return fmt.Errorf("cannot remove the left over cgroup %s: %w", dir, err)
}

// removeBelow removes a cgroup and those in it.
func removeBelow(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := removeBelow(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
