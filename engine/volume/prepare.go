package volume

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/api/types/volume"

	"github.com/kelp-engine/kelp/engine/fault"
	"github.com/kelp-engine/kelp/engine/mounts"
)

// Rootfs mounts a container's own root file system and returns its path;
// release gives it back.
type Rootfs = func(ctx context.Context) (path string, release func(), err error)

// Prepare makes the volumes that the points of a new container name and that
// are not there, names the anonymous ones, fills empty ones with what rootfs
// has at their target, and returns the points as the container's record keeps
// them. The volumes are the container's from then on, until Release. On an
// error the new ones are gone again.
func (m *Manager) Prepare(ctx context.Context, container string, points []mounts.Point, rootfs Rootfs) (out []mounts.Point, err error) {
	out = slices.Clone(points)
	var made []*entry
	defer func() {
		if err != nil {
			m.drop(container, out)
			for _, e := range made {
				_ = m.remove(context.WithoutCancel(ctx), e)
			}
		}
	}()
	for i := range out {
		switch p := &out[i]; p.Type {
		case mount.TypeVolume:
			e, isNew, err := m.create(ctx, volume.CreateRequest{Name: p.Name, Driver: p.Driver, DriverOpts: p.DriverOpts, Labels: p.Labels}, container)
			if isNew {
				made = append(made, e)
			}
			if err != nil {
				return out, err
			}
			p.Name, p.Driver, p.Source = e.Name, e.Driver, m.dataPath(e.Name)
		case mount.TypeBind:
			if isSocket(*p, m.cfg.Socket) {
				continue
			}
			if err := checkBind(*p); err != nil {
				return out, err
			}
		case mount.TypeImage:
			if p.ImageID == "" { // else it is another container's, by --volumes-from
				p.ImageID, err = m.cfg.Images.ResolveImage(ctx, p.Name)
			}
			if err != nil {
				return out, err
			}
		}
	}
	return out, m.fillAll(ctx, out, rootfs)
}

// checkBind refuses a bind whose source is missing, unless it is to be made.
func checkBind(p mounts.Point) error {
	if p.Create {
		return nil
	}
	_, err := os.Stat(p.Source)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fault.InvalidArgument("invalid mount config for type %q: bind source path does not exist: %s", p.Type, p.Source)
	case err != nil:
		return fault.InvalidArgument("invalid mount config for type %q: %w", p.Type, err)
	}
	return nil
}

// isSocket says whether a bind means the Engine API's socket: clients name
// the path where root's Docker has it, or Docker Desktop for its own use.
func isSocket(p mounts.Point, socket string) bool {
	dir, name := filepath.Split(p.Source)
	return socket != "" && p.Type == mount.TypeBind && (dir == "/var/run/" || dir == "/run/") &&
		(name == "docker.sock" || name == "docker.raw.sock")
}

func isVolume(p mounts.Point) bool { return p.Type == mount.TypeVolume }

// fillAll copies into the empty volumes among the points what the image has
// at their target.
func (m *Manager) fillAll(ctx context.Context, points []mounts.Point, rootfs Rootfs) error {
	var root string
	for _, p := range points {
		if !isVolume(p) || p.NoCopy || p.Subpath != "" {
			continue
		}
		e, err := m.find(p.Name)
		if err != nil {
			return err
		}
		if len(e.Options) == 0 { // spare a mount of the root file system
			if empty, err := isEmpty(m.dataPath(p.Name)); err == nil && !empty {
				continue
			}
		}
		if root == "" {
			path, release, err := rootfs(ctx)
			if err != nil {
				return err
			}
			defer release()
			root = path
		}
		if err := m.fillOne(ctx, e, root, p.Target); err != nil {
			return fmt.Errorf("cannot fill volume %s from the image: %w", p.Name, err)
		}
	}
	return nil
}

func (m *Manager) fillOne(ctx context.Context, e *entry, root, target string) error {
	release, err := e.begin(ctx)
	if err != nil {
		return err
	}
	defer release()
	s, err := parseOptions(e.Options)
	if err != nil {
		return err
	}
	if s != (source{}) {
		return m.fillMounted(e, s, root, target)
	}
	empty, err := isEmpty(m.dataPath(e.Name))
	if err != nil || !empty {
		return err
	}
	return fill(m.store.Dir(e.Name), root, target)
}

// fillMounted fills a volume that has to be mounted for it. One that a
// container runs with is left as it is: that container could misdirect the
// copy, and has had its say about the content.
func (m *Manager) fillMounted(e *entry, s source, root, target string) (err error) {
	m.mu.Lock()
	used := len(e.mounted) > 0
	m.mu.Unlock()
	if used || s.fs == "tmpfs" { // a tmpfs is empty again when the container starts
		return nil
	}
	path := filepath.Join(m.cfg.Run, volumePrefix+e.Name)
	if err := mountOnce(e.Name, s, path); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unmount(path)) }()
	if empty, err := isEmpty(path); err != nil || !empty {
		return err
	}
	if err := copyInto(path, root, target); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func isEmpty(dir string) (bool, error) {
	f, err := os.Open(dir)
	if err != nil {
		return false, err
	}
	defer f.Close()
	names, err := f.Readdirnames(1)
	if len(names) > 0 {
		return false, nil
	}
	return true, ignoreEOF(err)
}

// Release forgets that a container uses the volumes among its points and,
// with anonymous, removes the anonymous ones that no other container uses.
func (m *Manager) Release(ctx context.Context, container string, points []mounts.Point, anonymous bool) error {
	m.drop(container, points)
	if !anonymous {
		return nil
	}
	var errs []error
	for _, p := range points {
		if !isVolume(p) || !p.Anonymous {
			continue
		}
		if e, err := m.find(p.Name); err == nil && m.refs(e) == 0 {
			errs = append(errs, m.remove(ctx, e))
		}
	}
	return errors.Join(errs...)
}
