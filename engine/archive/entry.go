package archive

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"
	"time"

	pathrs "github.com/cyphar/filepath-securejoin/pathrs-lite"
	"golang.org/x/sys/unix"

	"github.com/kelp-engine/kelp/engine/fault"
	"github.com/kelp-engine/kelp/image/layer"
)

// make makes one entry by its name in the open directory parent, where
// nothing of that name is but perhaps a directory for a directory.
func (x *extractor) make(parent *os.File, base string, hdr *tar.Header, content io.Reader) error {
	dir := int(parent.Fd())
	switch hdr.Typeflag {
	case tar.TypeReg:
		return x.makeFile(dir, base, hdr, content)
	case tar.TypeDir:
		return x.makeDir(dir, base, hdr)
	case tar.TypeSymlink:
		if err := unix.Symlinkat(hdr.Linkname, dir, base); err != nil {
			return err
		}
		return x.setMeta(dir, base, hdr)
	case tar.TypeLink:
		return x.makeLink(dir, base, hdr)
	case tar.TypeFifo:
		if err := unix.Mknodat(dir, base, unix.S_IFIFO|uint32(hdr.Mode&0o777), 0); err != nil {
			return err
		}
		return x.setMeta(dir, base, hdr)
	case tar.TypeChar, tar.TypeBlock:
		return fault.InvalidArgument("the archive is refused: its entry %s is a device, which cannot be made without privileges", hdr.Name)
	}
	return fault.InvalidArgument("the archive is refused: its entry %s is of the unknown type %q", hdr.Name, hdr.Typeflag)
}

func (x *extractor) makeFile(dir int, base string, hdr *tar.Header, content io.Reader) error {
	fd, err := unix.Openat(dir, base, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), base)
	defer f.Close()
	if _, err := io.CopyBuffer(struct{ io.Writer }{f}, content, x.buf); err != nil {
		_ = unix.Unlinkat(dir, base, 0)
		return err
	}
	if err := x.chown(hdr, func(uid, gid int) error { return unix.Fchown(fd, uid, gid) }); err != nil {
		return err
	}
	if err := unix.Fchmod(fd, uint32(hdr.Mode&0o7777)); err != nil {
		return err
	}
	if err := setXattrs(fd, hdr); err != nil {
		return err
	}
	return setTime(f, hdr.ModTime)
}

func (x *extractor) makeDir(dir int, base string, hdr *tar.Header) error {
	if err := unix.Mkdirat(dir, base, 0o700); err != nil && !errors.Is(err, unix.EEXIST) {
		return err
	}
	f, err := openat(dir, base, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer f.Close()
	fd := int(f.Fd())
	if err := x.chown(hdr, func(uid, gid int) error { return unix.Fchown(fd, uid, gid) }); err != nil {
		return err
	}
	if err := unix.Fchmod(fd, uint32(hdr.Mode&0o7777)); err != nil {
		return err
	}
	x.times = append(x.times, dirTime{path.Join(x.parentPath, base), hdr.ModTime})
	return setXattrs(fd, hdr)
}

// makeLink makes a hard link to an entry of the same archive, or to what the
// directory that it goes to has by that name.
func (x *extractor) makeLink(dir int, base string, hdr *tar.Header) error {
	name, err := entryName(hdr.Linkname)
	if err != nil {
		return err
	}
	from, err := pathrs.OpenatInRoot(x.tree.root, path.Join(x.dest, path.Dir(name)))
	if err != nil {
		return fmt.Errorf("cannot find the target %s of the link: %w", hdr.Linkname, err)
	}
	defer from.Close()
	return unix.Linkat(int(from.Fd()), path.Base(name), dir, base, 0)
}

// setMeta sets the owner, mode and time of an entry that is neither a file
// nor a directory.
func (x *extractor) setMeta(dir int, base string, hdr *tar.Header) error {
	err := x.chown(hdr, func(uid, gid int) error {
		return unix.Fchownat(dir, base, uid, gid, unix.AT_SYMLINK_NOFOLLOW)
	})
	if err != nil {
		return err
	}
	if hdr.Typeflag == tar.TypeFifo {
		f, err := openat(dir, base, unix.O_PATH)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := unix.Chmod(fdPath(int(f.Fd())), uint32(hdr.Mode&0o7777)); err != nil {
			return err
		}
	}
	return unix.UtimesNanoAt(dir, base, timespecs(hdr.ModTime), unix.AT_SYMLINK_NOFOLLOW)
}

// chown gives an entry to its owner.
func (x *extractor) chown(hdr *tar.Header, chown func(uid, gid int) error) error {
	uid, gid := hdr.Uid, hdr.Gid
	if x.o.Owner != nil {
		uid, gid = int(x.o.Owner.UID), int(x.o.Owner.GID)
	}
	if uid < 0 || uid > int(x.o.MaxID) {
		uid = 0
	}
	if gid < 0 || gid > int(x.o.MaxID) {
		gid = 0
	}
	return chown(x.tree.ids.outside(uid, gid))
}

// setXattrs sets a file's capabilities and user attributes, where the file
// system has such. Others mean things that an archive has no say in, and so do
// those that speak to overlay file systems.
func setXattrs(fd int, hdr *tar.Header) error {
	for k, v := range hdr.PAXRecords {
		name, ok := strings.CutPrefix(k, paxXattr)
		if !ok || name != capabilityXattr && !strings.HasPrefix(name, "user.") || layer.SpeaksToStore(name) {
			continue
		}
		if err := unix.Fsetxattr(fd, name, []byte(v), 0); err != nil && !errors.Is(err, unix.ENOTSUP) {
			return fmt.Errorf("cannot set the attribute %s: %w", name, err)
		}
	}
	return nil
}

// setTime sets a file's times by its handle.
func setTime(f *os.File, at time.Time) error {
	return unix.UtimesNanoAt(unix.AT_FDCWD, fdPath(int(f.Fd())), timespecs(at), 0)
}

func timespecs(at time.Time) []unix.Timespec {
	if at.Before(time.Unix(0, 0)) {
		at = time.Unix(0, 0)
	}
	ts := unix.Timespec{Sec: at.Unix(), Nsec: int64(at.Nanosecond())}
	return []unix.Timespec{ts, ts}
}
