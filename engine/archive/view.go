package archive

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"slices"

	pathrs "github.com/cyphar/filepath-securejoin/pathrs-lite"
	"github.com/moby/moby/api/types/mount"
	"golang.org/x/sys/unix"

	"github.com/kelp-engine/kelp/engine/mounts"
)

// mountView mounts at dir, which it makes, what a container that does not run
// would see: its root file system with its volumes and binds. What a tmpfs
// would hide stays in sight.
func mountView(dir, rootfs string, points []mounts.Point) (root *os.File, err error) {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, unmountView(dir))
		}
	}()
	if err := unix.Mount(rootfs, dir, "", unix.MS_BIND, ""); err != nil {
		return nil, fmt.Errorf("cannot mount the root file system: %w", err)
	}
	if err := unix.Mount("", dir, "", unix.MS_PRIVATE, ""); err != nil {
		return nil, fmt.Errorf("cannot make a mount private: %w", err)
	}
	if root, err = openDir(dir); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			root.Close()
		}
	}()
	sorted := slices.Clone(points)
	slices.SortStableFunc(sorted, func(a, b mounts.Point) int { return cmp.Compare(len(a.Target), len(b.Target)) })
	for _, p := range sorted {
		if p.Type == mount.TypeTmpfs {
			continue
		}
		if err := mountPoint(root, p); err != nil {
			return nil, fmt.Errorf("cannot mount %s: %w", p.Target, err)
		}
	}
	return root, nil
}

func mountPoint(root *os.File, p mounts.Point) error {
	info, err := os.Stat(p.Source)
	if err != nil {
		return err
	}
	target, err := makeTarget(root, p.Target, info.IsDir())
	if err != nil {
		return err
	}
	defer target.Close()
	flags := uintptr(unix.MS_BIND | unix.MS_REC)
	if p.NonRecursive {
		flags = unix.MS_BIND
	}
	if err := unix.Mount(p.Source, fdPath(int(target.Fd())), "", flags, ""); err != nil {
		return err
	}
	if !p.ReadOnly {
		return nil
	}
	mounted, err := pathrs.OpenatInRoot(root, p.Target) // what is there now
	if err != nil {
		return err
	}
	defer mounted.Close()
	err = unix.MountSetattr(int(mounted.Fd()), "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY})
	if errors.Is(err, unix.ENOSYS) { // before Linux 5.12; checkWritable holds all the same
		return nil
	}
	return err
}

// makeTarget returns the mount point, which it makes as the runtime would.
func makeTarget(root *os.File, target string, dir bool) (*os.File, error) {
	f, err := pathrs.OpenatInRoot(root, target)
	if err == nil || !errors.Is(err, fs.ErrNotExist) {
		return f, err
	}
	if dir {
		return pathrs.MkdirAllHandle(root, target, 0o755)
	}
	parent, err := pathrs.MkdirAllHandle(root, path.Dir(target), 0o755)
	if err != nil {
		return nil, err
	}
	defer parent.Close()
	fd, err := unix.Openat(int(parent.Fd()), path.Base(target), unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), target), nil
}

// unmountView takes a view away, its mounts first.
func unmountView(dir string) error {
	err := unix.Unmount(dir, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
	if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("cannot unmount %s: %w", dir, err)
	}
	if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// sweepViews takes away the views that a killed engine left in dir.
func sweepViews(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		if err := unmountView(filepath.Join(dir, e.Name())); err != nil {
			slog.Warn("cannot clean up a view of a container", "error", err)
		}
	}
	return err
}
