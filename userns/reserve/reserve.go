// Package reserve sets a little of a disk aside. Removing things, and starting
// to, writes a little first: without it a full disk could not be emptied.
//
// It must not decide what is removed.
package reserve

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// size is what is set aside, in bytes; least is what a start needs to write:
// the lock, the log and records of what it finds.
const (
	size  = 2 << 20
	least = 1 << 20
)

// Reserve is a file that takes the space. The zero Reserve has none.
type Reserve struct{ path string }

// In returns the reserve of a directory.
func In(dir string) Reserve { return Reserve{filepath.Join(dir, "reserve")} }

// Fill sets the space aside unless it is. A disk that has not so much left
// gets it back.
func (r Reserve) Fill() (err error) {
	f, err := os.OpenFile(r.path, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err = errors.Join(err, f.Close()); err != nil {
			err = errors.Join(err, os.Remove(r.path))
		}
	}()
	info, err := f.Stat()
	if err != nil || info.Size() == size {
		return err
	}
	err = unix.Fallocate(int(f.Fd()), 0, 0, size)
	if errors.Is(err, unix.EOPNOTSUPP) { // NFS before version 4.2, for one
		_, err = f.WriteAt(make([]byte, size), 0)
	}
	return err
}

// Removing runs what makes room. If the disk is too full for that, it runs
// again with the space that was set aside.
func (r Reserve) Removing(remove func() error) error {
	err := remove()
	if !IsFull(err) || os.Remove(r.path) != nil {
		return err
	}
	err = remove()
	_ = r.Fill() // the next start tries again
	return err
}

// IsFull says whether an error is that of a full disk or a used up quota.
func IsFull(err error) bool { return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) }

// Room says whether there is space for a start, for which it gives back what
// was set aside. Where that cannot be told there is.
func (r Reserve) Room() bool {
	if !r.tight() {
		return true
	}
	if err := os.Remove(r.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false
	}
	return !r.tight()
}

// tight says whether less than a start's needs can be written. A quota is
// found out only by trying, which an NFS server may not know how to do.
func (r Reserve) tight() bool {
	dir := filepath.Dir(r.path)
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err == nil && st.Blocks > 0 && st.Bavail*uint64(st.Bsize) < least {
		return true
	}
	nameless, err := unix.Open(dir, unix.O_TMPFILE|unix.O_WRONLY|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return IsFull(err)
	}
	defer unix.Close(nameless)
	return IsFull(unix.Fallocate(nameless, 0, 0, least))
}
