package volume

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/volume"

	"github.com/kelp-engine/kelp/engine/crashpoint"
	"github.com/kelp-engine/kelp/engine/fault"
	"github.com/kelp-engine/kelp/engine/mounts"
	"github.com/kelp-engine/kelp/engine/record"
)

const (
	// localDriver is the only driver.
	localDriver = "local"
	// anonymousLabel marks volumes that a container made for itself.
	anonymousLabel = "com.docker.volume.anonymous"
	// dataDir holds a volume's content, beside its record.
	dataDir = "_data"
)

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
	// All are guarded by table.mu.
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

// table is all volumes, on disk and in memory, and who uses them.
type table struct {
	store  *record.Store[Record]
	events Publisher

	// mu guards volumes, and users, mounted and gone of each.
	mu      sync.Mutex
	volumes map[string]*entry
}

// openTable reads the volumes in dir and repairs them.
func openTable(dir string, p Publisher) (*table, error) {
	store, err := record.NewStore[Record](dir, record.Options{File: "volume.json", Schema: 1})
	if err != nil {
		return nil, err
	}
	docs, bad, err := store.All()
	if err != nil {
		return nil, fmt.Errorf("cannot read the volumes: %w", err)
	}
	for name, err := range bad {
		slog.Error("a volume is left out: its record cannot be read", "volume", name, "error", err)
	}
	t := &table{store: store, events: p, volumes: map[string]*entry{}}
	for name, r := range docs {
		if err := t.repair(name); err != nil {
			slog.Error("a volume cannot be repaired", "volume", name, "error", err)
		}
		t.volumes[name] = newEntry(*r)
	}
	return t, nil
}

// make puts a reserved volume on disk; when it cannot, the volume is gone.
func (t *table) make(e *entry) error {
	err := t.store.Save(e.Name, &e.Record)
	crashpoint.Hit("volume.create.saved")
	if err == nil {
		err = t.makeData(e.Name)
	}
	if err != nil {
		_ = t.store.Delete(e.Name) // All takes what remains for a removed one
		t.forget(e)
		return fmt.Errorf("cannot create volume %s: %w", e.Name, err)
	}
	crashpoint.Hit("volume.create.made")
	t.publish(events.ActionCreate, e.Name, map[string]string{"driver": e.Driver})
	return nil
}

// makeData makes the directory that holds the volume's content.
func (t *table) makeData(name string) error {
	data := t.dataPath(name)
	err := os.Mkdir(data, 0o755)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err == nil {
		err = os.Chmod(data, 0o755) // whatever the umask
	}
	return err
}

// repair ends what a crash interrupted: the making of the data directory, or
// the filling of it from an image.
func (t *table) repair(name string) error {
	if err := t.makeData(name); err != nil {
		return err
	}
	return finishFill(t.store.Dir(name))
}

// create makes a volume unless there is one of that name, and notes that the
// container uses it; made says which it was.
func (t *table) create(ctx context.Context, r volume.CreateRequest, container string) (e *entry, made bool, err error) {
	if r.Driver == "" {
		r.Driver = localDriver
	}
	if r.Driver != localDriver {
		return nil, false, fault.NotFound("error looking up volume plugin %s: plugin %q not found", r.Driver, r.Driver)
	}
	if r.Name == "" {
		r.Name = randomName()
		r.Labels = maps.Clone(r.Labels)
		if r.Labels == nil {
			r.Labels = map[string]string{}
		}
		r.Labels[anonymousLabel] = ""
	}
	if err := mounts.CheckName(r.Name); err != nil {
		return nil, false, err
	}
	if err := checkOptions(r.DriverOpts); err != nil {
		return nil, false, err
	}
	for {
		e, isNew := t.reserve(r, container)
		if isNew {
			defer func() { <-e.op }()
			return e, true, t.make(e)
		}
		// Whoever makes or removes it now has to end first.
		release, err := e.begin(ctx)
		if err != nil {
			return nil, false, err
		}
		release()
		if t.there(e) {
			return e, false, nil
		}
	}
}

// reserve returns the volume of that name; the operation of a new one has
// begun. The container, if there is one, is noted as its user.
func (t *table) reserve(r volume.CreateRequest, container string) (e *entry, isNew bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e = t.volumes[r.Name]
	if isNew = e == nil; isNew {
		e = newEntry(Record{Name: r.Name, Driver: r.Driver, Options: r.DriverOpts, Labels: r.Labels, Created: time.Now().UTC()})
		e.op <- struct{}{}
		t.volumes[r.Name] = e
	}
	if container != "" && !e.gone {
		e.users[container] = true
	}
	return e, isNew
}

func (t *table) there(e *entry) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return !e.gone
}

func (t *table) forget(e *entry) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e.gone = true
	delete(t.volumes, e.Name)
}

// claim marks a volume as gone, so that nobody begins to use it, unless
// somebody does already.
func (t *table) claim(e *entry) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e.gone {
		return fault.NotFound("get %s: no such volume", e.Name)
	}
	if len(e.users) > 0 {
		return fault.Conflict("remove %s: volume is in use - [%s]", e.Name, strings.Join(slices.Sorted(maps.Keys(e.users)), ", "))
	}
	e.gone = true
	return nil
}

func (t *table) remove(ctx context.Context, e *entry) error {
	release, err := e.begin(ctx)
	if err != nil {
		return err
	}
	defer release()
	if err := t.claim(e); err != nil {
		return err
	}
	if err := t.store.Delete(e.Name); err != nil {
		t.mu.Lock()
		e.gone = false
		t.mu.Unlock()
		return fmt.Errorf("cannot remove volume %s: %w", e.Name, err)
	}
	crashpoint.Hit("volume.remove.deleted")
	t.forget(e)
	t.publish(events.ActionDestroy, e.Name, map[string]string{"driver": e.Driver})
	return nil
}

// find returns a volume by its name.
func (t *table) find(name string) (*entry, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e := t.volumes[name]; e != nil && !e.gone {
		return e, nil
	}
	return nil, fault.NotFound("get %s: no such volume", name)
}

// all volumes, by name.
func (t *table) all() []*entry {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.SortedFunc(maps.Values(t.volumes), func(a, b *entry) int { return strings.Compare(a.Name, b.Name) })
}

func (t *table) refs(e *entry) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(e.users)
}

// drop takes the container from the users of its volumes.
func (t *table) drop(container string, points []mounts.Point) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, p := range points {
		if e := t.volumes[p.Name]; e != nil && isVolume(p) {
			delete(e.users, container)
			delete(e.mounted, container)
		}
	}
}

func (t *table) dataPath(name string) string { return filepath.Join(t.store.Dir(name), dataDir) }

// describe is the volume as the API shows it.
func (t *table) describe(e *entry) volume.Volume {
	return volume.Volume{
		Name:       e.Name,
		Driver:     e.Driver,
		Mountpoint: t.dataPath(e.Name),
		Labels:     e.Labels,
		Options:    e.Options,
		Scope:      "local",
		CreatedAt:  e.Created.Format(time.RFC3339),
	}
}

// publish tells of an event of a volume.
func (t *table) publish(action events.Action, name string, attrs map[string]string) {
	if t.events != nil {
		t.events.Publish(events.VolumeEventType, action, name, attrs)
	}
}

// randomName is that of an anonymous volume: 64 hexadecimal digits.
func randomName() string {
	b := make([]byte, 32)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)
}
