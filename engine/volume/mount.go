package volume

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	pathrs "github.com/cyphar/filepath-securejoin/pathrs-lite"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/kelp-engine/kelp/engine/fault"
	"github.com/kelp-engine/kelp/engine/mounts"
)

// Names below Config.Run: of a volume that is mounted by its driver options,
// and of what is mounted for one container.
const (
	volumePrefix    = "v-"
	containerPrefix = "c-"
)

// Mount makes ready what a container that is to start mounts, and returns its
// points with the paths to bind from. On an error nothing is left mounted.
func (m *Manager) Mount(ctx context.Context, container string, points []mounts.Point) (out []mounts.Point, err error) {
	out = slices.Clone(points)
	defer func() {
		if err != nil {
			err = errors.Join(err, m.Unmount(context.WithoutCancel(ctx), container, points))
		}
	}()
	dir := filepath.Join(m.cfg.Run, containerPrefix+container)
	for i := range out {
		p := &out[i]
		switch {
		case isSocket(*p, m.cfg.Socket):
			p.Source = m.cfg.Socket
		case p.Type == mount.TypeBind:
			err = makeSource(*p)
		case p.Type == mount.TypeVolume:
			p.Source, err = m.mountVolume(ctx, container, *p)
		case p.Type == mount.TypeImage:
			p.Source, err = m.mountImage(ctx, *p, dir, i)
		}
		if err == nil && p.Type == mount.TypeVolume && p.Subpath != "" {
			p.Source, err = mountSubpath(dir, i, p.Source, p.Subpath)
		}
		if err == nil {
			err = checkPropagation(*p)
		}
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

// makeSource makes the directory that a bind is from, if it is missing and to
// be made.
func makeSource(p mounts.Point) error {
	_, err := os.Stat(p.Source)
	if err == nil || !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if !p.Create {
		return fault.InvalidArgument("invalid mount config for type %q: bind source path does not exist: %s", p.Type, p.Source)
	}
	if err := os.MkdirAll(p.Source, 0o755); err != nil {
		return fault.InvalidArgument("error while creating mount source path '%s': %w", p.Source, err)
	}
	return nil
}

// mountVolume returns the path of the volume's content.
func (m *Manager) mountVolume(ctx context.Context, container string, p mounts.Point) (string, error) {
	e, err := m.find(p.Name)
	if err != nil {
		return "", err
	}
	release, err := e.begin(ctx)
	if err != nil {
		return "", err
	}
	defer release()
	path := m.dataPath(e.Name)
	s, err := parseOptions(e.Options)
	if err != nil {
		return "", err
	}
	if s != (source{}) {
		path = filepath.Join(m.cfg.Run, volumePrefix+e.Name)
		if err := mountOnce(e.Name, s, path); err != nil {
			return "", err
		}
	}
	m.mu.Lock()
	e.mounted[container] = true
	m.mu.Unlock()
	m.publish(events.ActionMount, e.Name, map[string]string{
		"container":   container,
		"destination": p.Target,
		"driver":      e.Driver,
		"propagation": string(p.Propagation),
		"read/write":  strconv.FormatBool(!p.ReadOnly),
	})
	return path, nil
}

// mountOnce mounts the source at path unless that has been done.
func mountOnce(volume string, s source, path string) error {
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	mounted, err := mountinfo.Mounted(path)
	if err != nil || mounted {
		return err
	}
	return s.mount(volume, path)
}

// mountImage gives an image, or a part of it, a path of its own in dir. The
// image store's own mount is not needed any more then.
func (m *Manager) mountImage(ctx context.Context, p mounts.Point, dir string, n int) (path string, err error) {
	whole, release, err := m.cfg.Images.MountImage(ctx, p.ImageID)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, release()) }()
	return mountSubpath(dir, n, whole, filepath.Join("/", p.Subpath))
}

// mountSubpath gives the part of a volume or image a path of its own in dir. The
// part is looked up inside the whole, and what was found is what is mounted:
// containers that use the volume cannot swap it for a link meanwhile.
func mountSubpath(dir string, n int, whole, sub string) (string, error) {
	part, err := pathrs.OpenInRoot(whole, sub)
	if err != nil {
		if errno, ok := errors.AsType[unix.Errno](err); ok {
			err = errno // the paths of the host say nothing to the client
		}
		return "", fault.InvalidArgument("cannot access path %s: %w", sub, err)
	}
	defer part.Close()
	info, err := part.Stat()
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	path := filepath.Join(dir, strconv.Itoa(n))
	if err := makeMountpoint(path, info.IsDir()); err != nil {
		return "", err
	}
	if err := unix.Mount("/proc/self/fd/"+strconv.Itoa(int(part.Fd())), path, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return "", fmt.Errorf("cannot mount %s: %w", sub, err)
	}
	return path, nil
}

// Shm mounts a tmpfs of that size, in bytes, for a container whose IPC
// namespace others may join, and returns its path: spec.Input.Shm of all of
// them. Unmount takes it away.
func (m *Manager) Shm(container string, size int64) (string, error) {
	path := m.ShmPath(container)
	if err := os.MkdirAll(path, 0o700); err != nil {
		return "", err
	}
	if mounted, err := mountinfo.Mounted(path); err != nil || mounted {
		return path, err
	}
	err := unix.Mount("shm", path, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, fmt.Sprintf("mode=1777,size=%d", size))
	if err != nil {
		return "", fmt.Errorf("cannot mount the shared memory of container %s: %w", container, err)
	}
	return path, nil
}

// ShmPath is where Shm has mounted the container's shared memory.
func (m *Manager) ShmPath(container string) string {
	return filepath.Join(m.cfg.Run, containerPrefix+container, "shm")
}

func makeMountpoint(path string, dir bool) error {
	if dir {
		if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		return nil
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	return f.Close()
}

// Unmount gives back what Mount made for the container. It is no error when
// there is nothing.
func (m *Manager) Unmount(ctx context.Context, container string, points []mounts.Point) error {
	errs := []error{unmountDir(filepath.Join(m.cfg.Run, containerPrefix+container))}
	for _, p := range points {
		if isVolume(p) {
			errs = append(errs, m.unmountVolume(ctx, container, p))
		}
	}
	return errors.Join(errs...)
}

func (m *Manager) unmountVolume(ctx context.Context, container string, p mounts.Point) error {
	e, err := m.find(p.Name)
	if err != nil {
		return nil // it was removed: it is not mounted
	}
	release, err := e.begin(ctx)
	if err != nil {
		return err
	}
	defer release()
	m.mu.Lock()
	was := e.mounted[container]
	delete(e.mounted, container)
	last := len(e.mounted) == 0
	m.mu.Unlock()
	if was {
		m.publish(events.ActionUnmount, e.Name, map[string]string{"container": container, "driver": e.Driver})
	}
	if last && len(e.Options) > 0 {
		return unmount(filepath.Join(m.cfg.Run, volumePrefix+e.Name))
	}
	return nil
}

// Sweep unmounts what is mounted for no container that Adopt named.
func (m *Manager) Sweep() error {
	entries, err := os.ReadDir(m.cfg.Run)
	if err != nil {
		return err
	}
	m.mu.Lock()
	wanted := map[string]bool{}
	for c := range m.running {
		wanted[containerPrefix+c] = true
	}
	for _, e := range m.volumes {
		if len(e.mounted) > 0 {
			wanted[volumePrefix+e.Name] = true
		}
	}
	m.mu.Unlock()
	for _, d := range entries {
		path := filepath.Join(m.cfg.Run, d.Name())
		switch {
		case wanted[d.Name()]:
			continue
		case strings.HasPrefix(d.Name(), volumePrefix):
			err = unmount(path)
		case strings.HasPrefix(d.Name(), containerPrefix):
			err = unmountDir(path)
		default:
			continue
		}
		if err != nil {
			slog.Warn("cannot clean up a mount of the last run", "path", path, "error", err)
		}
	}
	return nil
}

// unmountDir unmounts everything in dir and removes it.
func unmountDir(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := unmount(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return os.Remove(dir)
}

// unmount takes the mount from path and removes the mount point: never what
// is in the mounted file system.
func unmount(path string) error {
	err := unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
	if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("cannot unmount %s: %w", path, err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
