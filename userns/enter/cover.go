package enter

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Cover gives the calling thread a mount namespace of its own, in which files
// have other contents; those that do not exist are left out. dir is a
// directory for temporary files.
//
// Preconditions: the goroutine is locked to its thread, and the thread will
// execute another program: it must not go back to Go's other goroutines.
func Cover(dir string, files map[string][]byte) error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("cannot make a mount namespace: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return fmt.Errorf("cannot keep mounts apart: %w", err)
	}
	for path, content := range files {
		if _, err := os.Stat(path); err != nil {
			continue
		}
		if err := cover(dir, path, content); err != nil {
			return fmt.Errorf("cannot cover %s: %w", path, err)
		}
	}
	return nil
}

// cover mounts a file that has no name over another.
func cover(dir, path string, content []byte) error {
	f, err := os.CreateTemp(dir, "cover-")
	if err != nil {
		return err
	}
	defer f.Close()
	defer os.Remove(f.Name())
	if _, err := f.Write(content); err != nil {
		return err
	}
	if err := f.Chmod(0o644); err != nil {
		return err
	}
	return unix.Mount(f.Name(), path, "", unix.MS_BIND, "")
}

// Hide makes a directory look empty, in the mount namespace that Cover made.
// One that does not exist is left alone.
func Hide(dir string) error {
	if _, err := os.Stat(dir); err != nil {
		return nil
	}
	return unix.Mount("none", dir, "tmpfs", 0, "mode=755,size=64k")
}
