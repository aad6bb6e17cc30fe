package archive

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"

	"github.com/kelp-engine/kelp/engine/keeper"
	"github.com/kelp-engine/kelp/engine/mounts"
	"github.com/kelp-engine/kelp/engine/spec"
)

// Container is what a Service needs to know of one.
type Container struct {
	ID, Name string
	// Process is its first one; PID is 0 unless it runs.
	Process keeper.Started
	User    string
	Mounts  []mounts.Point
	// ReadOnly says that its root file system is.
	ReadOnly bool
	// IDs are those of its user namespace.
	IDs IDs
}

// Containers finds containers and tells the world what is done to them.
type Containers interface {
	Find(ref string) (Container, error)
	Publish(id string, action events.Action)
}

// RootFS mounts containers' root file systems.
type RootFS interface {
	MountRootFS(containerID string) (path string, err error)
	UnmountRootFS(containerID string) error
}

// Volumes mounts the volumes of containers that do not run.
type Volumes interface {
	Mount(ctx context.Context, user string, points []mounts.Point) ([]mounts.Point, error)
	Unmount(ctx context.Context, user string, points []mounts.Point) error
}

// Service copies files into and out of containers.
type Service struct {
	containers Containers
	rootfs     RootFS
	volumes    Volumes
	dir        string // of views
	maxID      uint32
	views      atomic.Uint64
}

// NewService makes dir if needed and takes away what a killed engine left
// mounted in it. maxID is the last user and group id that there is.
func NewService(c Containers, r RootFS, v Volumes, dir string, maxID uint32) (*Service, error) {
	if err := sweepViews(dir); err != nil {
		return nil, fmt.Errorf("cannot prepare the directory of views: %w", err)
	}
	return &Service{containers: c, rootfs: r, volumes: v, dir: dir, maxID: maxID}, nil
}

// Open returns the tree of a container, running or not. Close it.
func (s *Service) Open(ctx context.Context, ref string) (*Tree, error) {
	c, err := s.containers.Find(ref)
	if err != nil {
		return nil, err
	}
	return s.open(ctx, ref, c)
}

func (s *Service) open(ctx context.Context, ref string, c Container) (*Tree, error) {
	t := &Tree{name: ref, points: c.Mounts, readOnly: c.ReadOnly, ids: c.IDs}
	if c.Process.PID != 0 {
		if root, err := openRunning(c.Process); err == nil {
			t.root = root
			return t, nil
		}
		slog.Debug("a container has ended just now", "container", c.ID)
	}
	rootfs, err := s.rootfs.MountRootFS(c.ID)
	if err != nil {
		return nil, err
	}
	closers := []func() error{func() error { return s.rootfs.UnmountRootFS(c.ID) }}
	t.close = func() error { return closeAll(closers) }
	defer func() {
		if err != nil {
			_ = t.close()
		}
	}()
	n := strconv.FormatUint(s.views.Add(1), 10)
	user := "archive-" + n // holds the volumes apart from the container's own use
	points, err := s.volumes.Mount(ctx, user, c.Mounts)
	if err != nil {
		return nil, err
	}
	closers = append(closers, func() error { return s.volumes.Unmount(context.WithoutCancel(ctx), user, c.Mounts) })
	dir := filepath.Join(s.dir, n)
	if t.root, err = mountView(dir, rootfs, points); err != nil {
		return nil, fmt.Errorf("cannot look into container %s: %w", c.Name, err)
	}
	closers = append(closers, func() error { return unmountView(dir) })
	return t, nil
}

// closeAll undoes in reverse.
func closeAll(closers []func() error) (err error) {
	for i := len(closers) - 1; i >= 0; i-- {
		if e := closers[i](); e != nil && err == nil {
			err = e
		}
	}
	return err
}

// Stat describes a file in a container.
func (s *Service) Stat(ctx context.Context, ref, name string) (st container.PathStat, err error) {
	t, err := s.Open(ctx, ref)
	if err != nil {
		return st, err
	}
	defer func() { err = first(err, t.Close()) }()
	return t.Stat(name)
}

// Get describes a file in a container and returns what writes it, with all in
// it, as a tar stream. Call write exactly once: it closes the container's tree.
func (s *Service) Get(ctx context.Context, ref, name string) (st container.PathStat, write func(context.Context, io.Writer) error, err error) {
	c, err := s.containers.Find(ref)
	if err != nil {
		return st, nil, err
	}
	t, err := s.open(ctx, ref, c)
	if err != nil {
		return st, nil, err
	}
	if st, err = t.Stat(name); err != nil {
		return st, nil, first(err, t.Close())
	}
	s.containers.Publish(c.ID, events.ActionArchivePath)
	return st, func(ctx context.Context, w io.Writer) error {
		return first(t.Pack(ctx, w, name), t.Close())
	}, nil
}

// PutOptions say how an archive is put into a container.
type PutOptions struct {
	// KeepTypes refuses to put a directory in the place of another file, or
	// the other way round.
	KeepTypes bool
	// ToUser gives everything to the container's user.
	ToUser bool
}

// Put extracts a tar stream into a directory of a container.
func (s *Service) Put(ctx context.Context, ref, dir string, r io.Reader, o PutOptions) (err error) {
	c, err := s.containers.Find(ref)
	if err != nil {
		return err
	}
	t, err := s.open(ctx, ref, c)
	if err != nil {
		return err
	}
	defer func() { err = first(err, t.Close()) }()
	x := ExtractOptions{KeepTypes: o.KeepTypes, MaxID: s.maxID}
	if o.ToUser && c.User != "" {
		var owner Owner
		if owner.UID, owner.GID, err = spec.LookUser(t.Path(), c.User); err != nil {
			return err
		}
		x.Owner = &owner
	}
	if err := t.Extract(ctx, r, dir, x); err != nil {
		return err
	}
	s.containers.Publish(c.ID, events.ActionExtractToDir)
	return nil
}

// Export returns what writes a container's root file system, without its
// volumes, as a tar stream. Call write exactly once.
func (s *Service) Export(ref string) (write func(context.Context, io.Writer) error, err error) {
	c, err := s.containers.Find(ref)
	if err != nil {
		return nil, err
	}
	rootfs, err := s.rootfs.MountRootFS(c.ID)
	if err != nil {
		return nil, err
	}
	root, err := os.Open(rootfs)
	if err != nil {
		return nil, first(err, s.rootfs.UnmountRootFS(c.ID))
	}
	s.containers.Publish(c.ID, events.ActionExport)
	return func(ctx context.Context, w io.Writer) error {
		err := pack(ctx, w, root, "", c.IDs)
		root.Close()
		return first(err, s.rootfs.UnmountRootFS(c.ID))
	}, nil
}

func first(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
