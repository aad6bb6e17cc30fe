// Package archive copies files into and out of containers as tar streams,
// running or not, through the volumes and binds that they have mounted.
//
// A container's processes and images are hostile: they may swap directories
// for links while kelp reads or writes. So every name is looked up from the
// container's root with the kernel's help (openat2), everything below is done
// by file descriptor, and no link is followed but inside that root. It must
// not know how containers are run, nor HTTP.
package archive

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	securejoin "github.com/cyphar/filepath-securejoin"
	pathrs "github.com/cyphar/filepath-securejoin/pathrs-lite"
	"github.com/moby/moby/api/types/container"
	"golang.org/x/sys/unix"

	"github.com/kelp-engine/kelp/engine/fault"
	"github.com/kelp-engine/kelp/engine/keeper"
	"github.com/kelp-engine/kelp/engine/mounts"
	"github.com/kelp-engine/kelp/userns/procid"
)

// Tree is a container's file system as its processes see it.
type Tree struct {
	name     string   // of the container, as the client knows it
	root     *os.File // O_PATH
	points   []mounts.Point
	readOnly bool
	ids      IDs
	close    func() error
}

// Close gives the tree back.
func (t *Tree) Close() error {
	err := t.root.Close()
	if t.close != nil {
		err = errors.Join(err, t.close())
	}
	return err
}

// Path is the tree's root as a path that this process can open while the tree
// is open.
func (t *Tree) Path() string { return fdPath(int(t.root.Fd())) }

func fdPath(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }

// openRunning is the root of a running process. That it is the process meant
// is checked after the root is open: pids are used again.
func openRunning(p keeper.Started) (*os.File, error) {
	root, err := openDir(fmt.Sprintf("/proc/%d/root", p.PID))
	if err != nil {
		return nil, err
	}
	if now, err := procid.Of(p.PID); err != nil || now.StartTime != p.StartTime {
		root.Close()
		return nil, fault.NotFound("process %d has ended", p.PID)
	}
	return root, nil
}

func openDir(path string) (*os.File, error) {
	return os.OpenFile(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
}

// follows says whether the last element of a client's path, if it is a
// symbolic link, is what it points to: "link/" and "link/." are.
func follows(name string) bool { return strings.HasSuffix(name, "/") || strings.HasSuffix(name, "/.") }

// open finds a file by its path in the container and returns an O_PATH
// handle. Links inside the path are followed, the last one if follow is set.
func (t *Tree) open(name string, follow bool) (*os.File, error) {
	clean := path.Join("/", name)
	if follow || clean == "/" {
		f, err := pathrs.OpenatInRoot(t.root, clean)
		return f, t.missing(err, name)
	}
	dir, err := pathrs.OpenatInRoot(t.root, path.Dir(clean))
	if err != nil {
		return nil, t.missing(err, name)
	}
	defer dir.Close()
	f, err := openat(int(dir.Fd()), path.Base(clean), unix.O_PATH)
	return f, t.missing(err, name)
}

// openat opens a name, no path, in a directory without following a link.
func openat(dir int, name string, flags int) (*os.File, error) {
	for {
		fd, err := unix.Openat(dir, name, flags|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return nil, &fs.PathError{Op: "open", Path: name, Err: err}
		}
		return os.NewFile(uintptr(fd), name), nil
	}
}

// missing turns the error of a path that leads nowhere into what clients expect.
func (t *Tree) missing(err error, name string) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENOTDIR):
		return fault.NotFound("Could not find the file %s in container %s", name, t.name)
	case errors.Is(err, unix.ELOOP):
		return fault.InvalidArgument("cannot open %s in container %s: too many levels of symbolic links", name, t.name)
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return fault.PermissionDenied("cannot open %s in container %s: %w", name, t.name, err)
	}
	return fmt.Errorf("cannot open %s in container %s: %w", name, t.name, err)
}

// Stat describes a file. A symbolic link is described itself, unless name
// ends with a slash, together with where in the container it leads.
func (t *Tree) Stat(name string) (container.PathStat, error) {
	f, err := t.open(name, follows(name))
	if err != nil {
		return container.PathStat{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return container.PathStat{}, err
	}
	s := container.PathStat{Name: base(name), Size: info.Size(), Mode: info.Mode(), Mtime: inJSON(info.ModTime())}
	if info.Mode()&fs.ModeSymlink != 0 {
		s.LinkTarget, err = t.resolve(name)
	}
	return s, err
}

// inJSON is a file's time, which its container may have set to any year; those
// that JSON has no form for are zero.
func inJSON(t time.Time) time.Time {
	if year := t.UTC().Year(); year < 0 || year > 9999 {
		return time.Time{}
	}
	return t.UTC()
}

// base is the name that a copy of the file gets; "/" of the root, and "." of a
// directory of which only the content is meant.
func base(name string) string {
	if strings.HasSuffix(name, "/.") || name == "." {
		return "."
	}
	return path.Base(path.Join("/", name))
}

// resolve returns where a path leads when all links are followed, as a path
// in the container.
func (t *Tree) resolve(name string) (string, error) {
	p, err := securejoin.SecureJoinVFS("/", path.Join("/", name), linkReader{t})
	if err != nil {
		return "", t.missing(err, name)
	}
	return p, nil
}

// linkReader lets securejoin read the tree's links.
type linkReader struct{ t *Tree }

// Lstat implements securejoin.VFS.
func (l linkReader) Lstat(name string) (os.FileInfo, error) {
	f, err := l.t.open(name, false)
	if err != nil {
		return nil, notExist(err)
	}
	defer f.Close()
	return f.Stat()
}

// Readlink implements securejoin.VFS.
func (l linkReader) Readlink(name string) (string, error) {
	f, err := l.t.open(name, false)
	if err != nil {
		return "", notExist(err)
	}
	defer f.Close()
	return readlink(int(f.Fd()))
}

// notExist gives securejoin the error it knows for a missing file.
func notExist(err error) error {
	if errdefs.IsNotFound(err) {
		return fs.ErrNotExist
	}
	return err
}

// readlink reads the symbolic link that the handle is.
func readlink(fd int) (string, error) {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(fd, "", buf)
	if err != nil {
		return "", os.NewSyscallError("readlinkat", err)
	}
	return string(buf[:n]), nil
}

// checkWritable refuses to write to what the container has mounted read-only.
func (t *Tree) checkWritable(name string) error {
	real, err := t.resolve(name)
	if err != nil {
		return err
	}
	var at *mounts.Point
	for i, p := range t.points {
		if within(real, p.Target) && (at == nil || len(p.Target) > len(at.Target)) {
			at = &t.points[i]
		}
	}
	switch {
	case at == nil && t.readOnly:
		return fault.PermissionDenied("container rootfs is marked read-only")
	case at != nil && at.ReadOnly:
		return fault.PermissionDenied("mounted volume is marked read-only")
	}
	return nil
}

func within(name, dir string) bool {
	return name == dir || strings.HasPrefix(name, strings.TrimSuffix(filepath.Clean(dir), "/")+"/")
}
