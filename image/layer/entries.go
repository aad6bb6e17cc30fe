package layer

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/vbatts/tar-split/archive/tar"
	"golang.org/x/sys/unix"
)

type unixStat = syscall.Stat_t

// create runs make, which must fail with EEXIST when base is there. The layer
// may replace what it removes itself; anything else there is the same entry
// under another name.
func (t *tree) create(dirfd int, base string, make func() error) error {
	err := make()
	if errors.Is(err, unix.EEXIST) {
		if !whiteoutAt(dirfd, base) {
			return refused("it is in the layer twice")
		}
		if err := unix.Unlinkat(dirfd, base, 0); err != nil {
			return err
		}
		err = make()
	}
	return SpaceError(t.dir, err)
}

func whiteoutAt(dirfd int, base string) bool {
	var st unix.Stat_t
	err := unix.Fstatat(dirfd, base, &st, unix.AT_SYMLINK_NOFOLLOW)
	return err == nil && st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == 0
}

func (t *tree) addFile(dirfd int, base string, hdr *tar.Header, content io.Reader) error {
	if isSparse(hdr) {
		return refused("sparse files are not supported: make the archive without --sparse")
	}
	if err := t.space.want(hdr.Size); err != nil {
		return err
	}
	fd := -1
	err := t.create(dirfd, base, func() (err error) {
		const flags = unix.O_CREAT | unix.O_EXCL | unix.O_WRONLY | unix.O_NOFOLLOW | unix.O_CLOEXEC
		fd, err = unix.Openat(dirfd, base, flags, 0o600)
		return err
	})
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := t.copyContent(fd, hdr.Size, content); err != nil {
		return err
	}
	if err := t.setFileMeta(fd, hdr); err != nil {
		return err
	}
	return setTime(dirfd, base, hdr.ModTime)
}

// copyContent writes with plain calls: a layer has many small files, and an
// os.File for each is a third of the cost.
func (t *tree) copyContent(fd int, size int64, content io.Reader) error {
	for size > 0 {
		n, err := io.ReadFull(content, t.copyBuffer[:min(size, int64(len(t.copyBuffer)))])
		if err != nil {
			return fmt.Errorf("cannot read its content: %w", err)
		}
		for b := t.copyBuffer[:n]; len(b) > 0; {
			w, err := unix.Write(fd, b)
			if errors.Is(err, unix.EINTR) {
				continue
			}
			if err != nil {
				return SpaceError(t.dir, err)
			}
			b = b[w:]
		}
		size -= int64(n)
	}
	return nil
}

func isSparse(hdr *tar.Header) bool {
	for key := range hdr.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return true
		}
	}
	return false
}

func (t *tree) addDir(dirfd int, base string, hdr *tar.Header) error {
	replaces := whiteoutAt(dirfd, base)
	err := t.create(dirfd, base, func() error {
		err := unix.Mkdirat(dirfd, base, 0o700)
		if errors.Is(err, unix.EEXIST) && dirAt(dirfd, base) {
			return nil // made for an entry below it that came first
		}
		return err
	})
	if err != nil {
		return err
	}
	fd, err := unix.Openat(dirfd, base, unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if replaces {
		if err := unix.Fsetxattr(fd, t.o.OpaqueXattr, []byte("y"), 0); err != nil {
			return fmt.Errorf("cannot make the directory opaque: %w", err)
		}
	}
	return t.setFileMeta(fd, hdr)
}

func dirAt(dirfd int, base string) bool {
	var st unix.Stat_t
	err := unix.Fstatat(dirfd, base, &st, unix.AT_SYMLINK_NOFOLLOW)
	return err == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR
}

func (t *tree) addSymlink(dirfd int, base string, hdr *tar.Header) error {
	if hdr.Linkname == "" {
		return refused("the symbolic link leads nowhere")
	}
	err := t.create(dirfd, base, func() error { return unix.Symlinkat(hdr.Linkname, dirfd, base) })
	if err != nil {
		return err
	}
	if err := t.chown(hdr, func() error { return unix.Fchownat(dirfd, base, hdr.Uid, hdr.Gid, unix.AT_SYMLINK_NOFOLLOW) }); err != nil {
		return err
	}
	return setTime(dirfd, base, hdr.ModTime)
}

func (t *tree) addLink(dirfd int, base string, hdr *tar.Header) error {
	target, err := cleanName(hdr.Linkname)
	if err != nil {
		return refused("the hard link's target lies outside the layer")
	}
	d, err := t.root.OpenFile(filepath.Dir(target), os.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return refused(fmt.Sprintf("the hard link's target %q is not in the layer", hdr.Linkname))
	}
	defer d.Close()
	err = t.create(dirfd, base, func() error {
		return unix.Linkat(int(d.Fd()), filepath.Base(target), dirfd, base, 0)
	})
	switch {
	case errors.Is(err, unix.ENOENT):
		return refused(fmt.Sprintf("the hard link's target %q is not in the layer", hdr.Linkname))
	case errors.Is(err, unix.EPERM) && dirAt(int(d.Fd()), filepath.Base(target)):
		return refused("a hard link cannot lead to a directory")
	}
	return err
}

// setMeta sets the owner, mode and time of what has no handle of its own.
func (t *tree) setMeta(dirfd int, base string, hdr *tar.Header) error {
	err := t.chown(hdr, func() error { return unix.Fchownat(dirfd, base, hdr.Uid, hdr.Gid, unix.AT_SYMLINK_NOFOLLOW) })
	if err != nil {
		return err
	}
	// A FIFO is never a link, so following is no risk.
	if err := unix.Fchmodat(dirfd, base, uint32(hdr.Mode)&0o7777, 0); err != nil {
		return err
	}
	return setTime(dirfd, base, hdr.ModTime)
}

// setFileMeta sets the owner, mode and attributes of an open file. The mode
// comes after the owner, which clears set-id bits.
func (t *tree) setFileMeta(fd int, hdr *tar.Header) error {
	if err := t.chown(hdr, func() error { return unix.Fchown(fd, hdr.Uid, hdr.Gid) }); err != nil {
		return err
	}
	if err := unix.Fchmod(fd, uint32(hdr.Mode)&0o7777); err != nil {
		return fmt.Errorf("cannot set its mode: %w", err)
	}
	for key, value := range hdr.PAXRecords {
		name, ok := strings.CutPrefix(key, xattrPrefix)
		if !ok || SpeaksToStore(name) {
			continue
		}
		err := unix.Fsetxattr(fd, name, []byte(value), 0)
		if err != nil && !errors.Is(err, unix.ENOTSUP) && !errors.Is(err, unix.EPERM) {
			return fmt.Errorf("cannot set its attribute %s: %w", name, SpaceError(t.dir, err))
		}
	}
	return nil
}

// SpeaksToStore says whether an extended attribute means something to what
// files are stored with: overlay file systems, which would take a redirect to
// another directory from it, and containers/storage. Layers and archives come
// from strangers, and have no say in that.
func SpeaksToStore(name string) bool {
	return slices.ContainsFunc(storeXattrs, func(prefix string) bool { return strings.HasPrefix(name, prefix) })
}

var storeXattrs = []string{"trusted.", "user.overlay.", "user.fuseoverlayfs.", "user.containers."}

func (t *tree) chown(hdr *tar.Header, chown func() error) error {
	err := error(unix.EINVAL) // what the kernel would take for another id
	if isID(hdr.Uid) && isID(hdr.Gid) {
		err = chown()
	}
	if errors.Is(err, unix.EINVAL) {
		if t.o.IgnoreOwner {
			return nil
		}
		return refused(fmt.Sprintf("its owner %d:%d is not among the ids that this user has: "+
			"extend the ranges in /etc/subuid and /etc/subgid", hdr.Uid, hdr.Gid))
	}
	if err != nil && !(t.o.IgnoreOwner && errors.Is(err, unix.EPERM)) {
		return fmt.Errorf("cannot set its owner: %w", err)
	}
	return nil
}

// isID says whether a user or group can have the number; the last one means
// none to the kernel.
func isID(n int) bool { return n >= 0 && n < math.MaxUint32 }

func setTime(dirfd int, base string, mtime time.Time) error {
	ts, err := unix.TimeToTimespec(mtime)
	if err != nil {
		ts = unix.Timespec{}
	}
	return unix.UtimesNanoAt(dirfd, base, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW)
}

// addWhiteout removes something of the layers below.
func (t *tree) addWhiteout(hdr *tar.Header, name, base string) error {
	if hdr.Size > 0 {
		return refused("a whiteout has content")
	}
	if strings.HasPrefix(base, metadataPrefix) && base != opaqueName {
		return nil
	}
	parent := filepath.Dir(name)
	if t.underWhiteout(parent) {
		return nil // the directory above is removed, and with it this
	}
	dirfd, err := t.openParent(parent)
	if err != nil {
		return err
	}
	if base == opaqueName {
		return t.setOpaque(dirfd)
	}
	target := strings.TrimPrefix(base, whiteoutPrefix)
	if target == "" || target == "." || target == ".." {
		return refused("the whiteout names nothing")
	}
	err = unix.Mknodat(dirfd, target, unix.S_IFCHR, 0)
	if errors.Is(err, unix.EEXIST) {
		return t.whiteoutExisting(parent, target)
	}
	if err != nil {
		return fmt.Errorf("cannot make a whiteout: %w", SpaceError(t.dir, err))
	}
	return nil
}

// whiteoutExisting handles a whiteout of what the layer also makes: it is
// meant for the layers below, so only a directory can still show them.
func (t *tree) whiteoutExisting(parent, target string) error {
	name := filepath.Join(parent, target)
	fi, err := t.root.Lstat(name)
	if err != nil || fi.Mode()&fs.ModeDir == 0 {
		return err
	}
	d, err := t.root.Open(name)
	if err != nil {
		return err
	}
	defer d.Close()
	return t.setOpaque(int(d.Fd()))
}

func (t *tree) setOpaque(fd int) error {
	if err := unix.Fsetxattr(fd, t.o.OpaqueXattr, []byte("y"), 0); err != nil {
		return fmt.Errorf("cannot make the directory opaque: %w", err)
	}
	return nil
}
