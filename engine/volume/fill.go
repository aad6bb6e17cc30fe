package volume

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	pathrs "github.com/cyphar/filepath-securejoin/pathrs-lite"
	"go.podman.io/storage/drivers/copy"
	"golang.org/x/sys/unix"

	"github.com/kelp-engine/kelp/engine/fault"
)

// Directories beside a volume's data while it is filled. The copy is made in
// one and, when it is whole, renamed to the other, from which everything
// moves into place: a crash, also of the machine, leaves either nothing of the
// copy or all of it.
const (
	copying = "_copying"
	copied  = "_copied"
)

// fill copies what rootfs has at target into the data directory of the volume
// in dir, which is empty, with owners, modes and times. A target that the
// image does not have leaves the volume empty.
//
// rootfs comes from an image that may be hostile: target is looked up inside
// it. The data directory may be in use by containers that rename things below
// our feet: nothing is followed there, and nothing replaced.
func fill(dir, rootfs, target string) error {
	stage := filepath.Join(dir, copying)
	if err := os.RemoveAll(stage); err != nil {
		return err
	}
	if err := os.Mkdir(stage, 0o700); err != nil {
		return err
	}
	switch err := copyInto(stage, rootfs, target); {
	case errors.Is(err, fs.ErrNotExist):
		return os.RemoveAll(stage)
	case err != nil:
		return errors.Join(err, os.RemoveAll(stage))
	}
	if err := promote(dir); err != nil {
		return errors.Join(err, os.RemoveAll(stage))
	}
	return finishFill(dir)
}

// promote says durably that the copy in dir is whole. The file system is
// written out at once, which takes less than file by file.
func promote(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := unix.Syncfs(int(d.Fd())); err != nil {
		return fmt.Errorf("cannot write the copy to the disk: %w", err)
	}
	if err := os.Rename(filepath.Join(dir, copying), filepath.Join(dir, copied)); err != nil {
		return err
	}
	return d.Sync()
}

// copyInto copies what rootfs has at target into dst, an empty directory that
// nobody else uses. A missing target is fs.ErrNotExist.
func copyInto(dst, rootfs, target string) error {
	src, err := pathrs.OpenInRoot(rootfs, target)
	if err != nil {
		return err
	}
	defer src.Close()
	info, err := src.Stat()
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return fault.InvalidArgument("cannot mount volume over existing file, file exists %s", target)
	}
	// The walk starts in the directory itself, not at a link to it.
	from := "/proc/self/fd/" + strconv.Itoa(int(src.Fd())) + "/."
	return copy.DirCopy(from, dst, copy.Content, true)
}

// finishFill ends a fill: it moves a whole copy into place and removes half of
// one.
func finishFill(dir string) error {
	if err := os.RemoveAll(filepath.Join(dir, copying)); err != nil {
		return err
	}
	stage := filepath.Join(dir, copied)
	from, err := os.Open(stage)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer from.Close()
	data, err := os.OpenFile(filepath.Join(dir, dataDir), unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer data.Close()
	names, err := from.Readdirnames(-1)
	if err != nil {
		return err
	}
	for _, name := range names {
		err := unix.Renameat2(int(from.Fd()), name, int(data.Fd()), name, unix.RENAME_NOREPLACE)
		if err != nil && !errors.Is(err, unix.EEXIST) { // a container was faster: what it made stays
			return fmt.Errorf("cannot move %q into the volume: %w", name, err)
		}
	}
	if err := takeAfter(data, from); err != nil {
		return err
	}
	if err := data.Sync(); err != nil { // before the stage goes, which may still have it all
		return err
	}
	return os.RemoveAll(stage)
}

// takeAfter gives a directory the owner and the mode of another.
func takeAfter(dir, model *os.File) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(model.Fd()), &st); err != nil {
		return err
	}
	if err := dir.Chown(int(st.Uid), int(st.Gid)); err != nil {
		return err
	}
	return unix.Fchmod(int(dir.Fd()), st.Mode&0o7777)
}

func ignoreEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}
