// Package volume owns volumes: their records, their data on disk, and what a
// container's mount points need made, mounted and unmounted around its run.
//
// It must not know containers but by the id that their mounts are held under.
package volume

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/moby/moby/api/types/events"

	"github.com/kelp-engine/kelp/engine/fault"
	"github.com/kelp-engine/kelp/engine/mounts"
	"github.com/kelp-engine/kelp/engine/record"
)

const (
	// localDriver is the only driver.
	localDriver = "local"
	// anonymousLabel marks volumes that a container made for itself.
	anonymousLabel = "com.docker.volume.anonymous"
	dataDir        = "_data"
)

// Images gives images to mount into containers.
type Images interface {
	// MountImage mounts the image that ref names, read-only, for a container
	// and returns its root; UnmountImage gives it back.
	MountImage(ctx context.Context, ref, container string) (path string, err error)
	UnmountImage(ctx context.Context, ref, container string) error
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
	Images Images // nil refuses mounts of images
	Events Publisher
}

// Record is what is kept of a volume.
type Record struct {
	Name    string            `json:"name"`
	Driver  string            `json:"driver"`
	Options map[string]string `json:"options,omitempty"`
	Labels  map[string]string `json:"labels,omitempty"`
	Created time.Time         `json:"created"`
}

// entry is a volume and who uses it.
type entry struct {
	Record
	// op is held by whoever makes, fills, mounts or removes the volume.
	op chan struct{}
	// users are the containers that have it among their mounts, and mounted
	// those of them that run. A volume that is gone is removed or about to be.
	// All are guarded by Manager.mu.
	users, mounted map[string]bool
	gone           bool
}

// begin waits for the volume's other operations to end.
func (e *entry) begin(ctx context.Context) (release func(), err error) {
	select {
	case e.op <- struct{}{}:
		return func() { <-e.op }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func newEntry(r Record) *entry {
	return &entry{Record: r, op: make(chan struct{}, 1), users: map[string]bool{}, mounted: map[string]bool{}}
}

// Manager holds all volumes.
type Manager struct {
	cfg   Config
	store *record.Store[Record]

	// mu guards volumes, and users, mounted and gone of each.
	mu      sync.Mutex
	volumes map[string]*entry
}

// NewManager opens the volumes in c.Dir and repairs what a crash left half
// done. Call Adopt for every container, then Sweep, before anything else.
func NewManager(c Config) (*Manager, error) {
	store, err := record.NewStore[Record](c.Dir, record.Options{File: "volume.json", Schema: 1})
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(c.Run, 0o700); err != nil {
		return nil, fmt.Errorf("cannot make the directory of mounted volumes: %w", err)
	}
	docs, bad, err := store.All()
	if err != nil {
		return nil, fmt.Errorf("cannot read the volumes: %w", err)
	}
	for name, err := range bad {
		slog.Error("a volume is left out: its record cannot be read", "volume", name, "error", err)
	}
	m := &Manager{cfg: c, store: store, volumes: map[string]*entry{}}
	for name, r := range docs {
		if err := m.repair(name); err != nil {
			slog.Error("a volume cannot be repaired", "volume", name, "error", err)
		}
		m.volumes[name] = newEntry(*r)
	}
	return m, nil
}

// repair ends what a crash interrupted: the making of the data directory, or
// the filling of it from an image.
func (m *Manager) repair(name string) error {
	if err := m.makeData(name); err != nil {
		return err
	}
	return finishFill(m.store.Dir(name))
}

// makeData makes the directory that holds the volume's content.
func (m *Manager) makeData(name string) error {
	data := m.dataPath(name)
	err := os.Mkdir(data, 0o755)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err == nil {
		err = os.Chmod(data, 0o755) // whatever the umask
	}
	return err
}

func (m *Manager) dataPath(name string) string { return filepath.Join(m.store.Dir(name), dataDir) }

// Adopt says that a container with these points exists, and whether it runs,
// after a start of the engine.
func (m *Manager) Adopt(container string, points []mounts.Point, running bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, p := range points {
		if e := m.volumes[p.Name]; e != nil && isVolume(p) {
			e.users[container] = true
			if running {
				e.mounted[container] = true
			}
		}
	}
}

// find returns a volume by its name.
func (m *Manager) find(name string) (*entry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e := m.volumes[name]; e != nil && !e.gone {
		return e, nil
	}
	return nil, fault.NotFound("get %s: no such volume", name)
}

// publish tells of an event of a volume.
func (m *Manager) publish(action events.Action, name string, attrs map[string]string) {
	if m.cfg.Events != nil {
		m.cfg.Events.Publish(events.VolumeEventType, action, name, attrs)
	}
}
