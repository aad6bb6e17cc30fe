// Package volume owns volumes: their records, their data on disk, and what a
// container's mount points need made, mounted and unmounted around its run.
//
// It must not know containers but by the id that their mounts are held under.
package volume

import (
	"context"

	"github.com/moby/moby/api/types/volume"

	"github.com/kelp-engine/kelp/engine/fault"
	"github.com/kelp-engine/kelp/engine/mounts"
)

// Images gives images to mount into containers.
type Images interface {
	// MountImage mounts the image that ref names, read-only, and returns its
	// root; UnmountImage undoes it when no one else uses the image so.
	MountImage(ctx context.Context, ref, container string) (path string, err error)
	UnmountImage(ctx context.Context, ref, container string) error
}

// Containers tells which containers refer to a volume.
type Containers interface {
	VolumeUsers(name string) (ids []string)
}

// Events receives what happens to volumes.
type Events interface {
	PublishVolume(action, name string, attributes map[string]string)
}

// Config of a Manager.
type Config struct {
	Dir    string // of records and data
	Run    string // of mounts for running containers
	Images Images
	Events Events
}

// Manager holds all volumes.
type Manager struct {
	cfg        Config
	containers Containers
}

// NewManager opens the volumes in c.Dir.
func NewManager(c Config) (*Manager, error) { return &Manager{cfg: c}, nil }

// SetContainers says whom to ask about use; call it before serving anyone.
func (m *Manager) SetContainers(c Containers) { m.containers = c }

// Prepare makes the volumes that the points of a new container name and are
// not there, names anonymous ones, and returns the points with names and
// sources filled in, for the container's record. On an error it has made
// nothing.
func (m *Manager) Prepare(ctx context.Context, container string, points []mounts.Point) ([]mounts.Point, error) {
	if len(points) > 0 {
		return nil, fault.NotImplemented("volumes are not there yet")
	}
	return points, nil
}

// Mount makes ready what a container that is to start mounts and returns the
// points with the paths to bind from. rootfs is the container's own, mounted:
// empty volumes get what it has at their target. It may be called again for a
// container that is mounted already, as after a restart of the engine.
func (m *Manager) Mount(ctx context.Context, container string, points []mounts.Point, rootfs string) ([]mounts.Point, error) {
	return points, nil
}

// Unmount gives back what Mount made for the container. It is no error when
// there is nothing.
func (m *Manager) Unmount(ctx context.Context, container string, points []mounts.Point) error {
	return nil
}

// Release forgets a removed container's points and, when anonymous is set,
// removes its anonymous volumes that no other container uses.
func (m *Manager) Release(ctx context.Context, points []mounts.Point, anonymous bool) error {
	return nil
}

// Inspect describes the volume.
func (m *Manager) Inspect(ctx context.Context, name string) (volume.Volume, error) {
	return volume.Volume{}, fault.NotFound("get %s: no such volume", name)
}
