// Package volume owns volumes: their records, their data on disk, and what a
// container's mount points need made, mounted and unmounted around its run.
//
// It must not know containers but by the id that their mounts are held under.
package volume

import (
	"context"
	"fmt"
	"os"

	"github.com/moby/moby/api/types/events"

	"github.com/kelp-engine/kelp/engine/mounts"
)

// Images gives images to mount into containers.
type Images interface {
	// ResolveImage returns the Id of the image that ref names.
	ResolveImage(ctx context.Context, ref string) (id string, err error)
	// MountImage mounts an image read-only and returns its root.
	MountImage(ctx context.Context, ref string) (path string, release func() error, err error)
}

// Publisher tells the world what happens to volumes.
type Publisher interface {
	Publish(typ events.Type, action events.Action, id string, attrs map[string]string)
}

// Config of a Manager.
type Config struct {
	Dir    string // of records and data
	Run    string // of mounts made for running containers
	Socket string // of the Engine API: what a bind of /var/run/docker.sock means
	Images Images
	Events Publisher
}

// Manager holds all volumes, and mounts them for containers.
type Manager struct {
	*table
	cfg Config

	// running are the containers that Adopt said run. Only Sweep reads it.
	running map[string]bool
}

// NewManager opens the volumes in c.Dir and repairs what a crash left half
// done. Call Adopt for every container, then Sweep, before anything else.
func NewManager(c Config) (*Manager, error) {
	t, err := openTable(c.Dir, c.Events)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(c.Run, 0o700); err != nil {
		return nil, fmt.Errorf("cannot make the directory of mounted volumes: %w", err)
	}
	return &Manager{table: t, cfg: c, running: map[string]bool{}}, nil
}

// Adopt says that a container with these points exists, and whether it runs,
// after a start of the engine.
func (m *Manager) Adopt(container string, points []mounts.Point, running bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if running {
		m.running[container] = true
	}
	for _, p := range points {
		if e := m.volumes[p.Name]; e != nil && isVolume(p) {
			e.users[container] = true
			if running {
				e.mounted[container] = true
			}
		}
	}
}
