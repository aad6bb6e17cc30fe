package volume

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/volume"

	"github.com/kelp-engine/kelp/engine/fault"
	"github.com/kelp-engine/kelp/engine/filter"
	"github.com/kelp-engine/kelp/engine/mounts"
)

// Create makes the volume that r asks for, or returns the one that has its
// name already.
func (m *Manager) Create(ctx context.Context, r volume.CreateRequest) (volume.Volume, error) {
	if r.ClusterVolumeSpec != nil {
		return volume.Volume{}, fault.Unavailable("this node is not a swarm manager").
			WithHint("cluster volumes need a swarm, which this engine is not part of")
	}
	e, _, err := m.create(ctx, r, "")
	if err != nil {
		return volume.Volume{}, err
	}
	return m.describe(e), nil
}

// create makes a volume unless there is one of that name, and notes that the
// container uses it; made says which it was.
func (m *Manager) create(ctx context.Context, r volume.CreateRequest, container string) (e *entry, made bool, err error) {
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
		e, isNew := m.reserve(r, container)
		if isNew {
			defer func() { <-e.op }()
			return e, true, m.make(e)
		}
		// Whoever makes or removes it now has to end first.
		release, err := e.begin(ctx)
		if err != nil {
			return nil, false, err
		}
		release()
		if m.there(e) {
			return e, false, nil
		}
	}
}

// reserve returns the volume of that name; the operation of a new one has
// begun. The container, if there is one, is noted as its user.
func (m *Manager) reserve(r volume.CreateRequest, container string) (e *entry, isNew bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e = m.volumes[r.Name]
	if isNew = e == nil; isNew {
		e = newEntry(Record{Name: r.Name, Driver: r.Driver, Options: r.DriverOpts, Labels: r.Labels, Created: time.Now().UTC()})
		e.op <- struct{}{}
		m.volumes[r.Name] = e
	}
	if container != "" && !e.gone {
		e.users[container] = true
	}
	return e, isNew
}

func (m *Manager) there(e *entry) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return !e.gone
}

// make puts a reserved volume on disk; when it cannot, the volume is gone.
func (m *Manager) make(e *entry) error {
	err := m.store.Save(e.Name, &e.Record)
	if err == nil {
		err = m.makeData(e.Name)
	}
	if err != nil {
		_ = m.store.Delete(e.Name) // All takes what remains for a removed one
		m.forget(e)
		return fmt.Errorf("cannot create volume %s: %w", e.Name, err)
	}
	m.publish(events.ActionCreate, e.Name, map[string]string{"driver": e.Driver})
	return nil
}

func (m *Manager) forget(e *entry) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e.gone = true
	delete(m.volumes, e.Name)
}

// randomName is that of an anonymous volume: 64 hexadecimal digits.
func randomName() string {
	b := make([]byte, 32)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

// describe is the volume as the API shows it.
func (m *Manager) describe(e *entry) volume.Volume {
	return volume.Volume{
		Name:       e.Name,
		Driver:     e.Driver,
		Mountpoint: m.dataPath(e.Name),
		Labels:     e.Labels,
		Options:    e.Options,
		Scope:      "local",
		CreatedAt:  e.Created.Format(time.RFC3339),
	}
}

// Inspect describes the volume.
func (m *Manager) Inspect(name string) (volume.Volume, error) {
	e, err := m.find(name)
	if err != nil {
		return volume.Volume{}, err
	}
	return m.describe(e), nil
}

// ListFilters are the filters of List, PruneFilters those of Prune.
var (
	ListFilters  = []string{"dangling", "driver", "label", "name"}
	PruneFilters = []string{"all", "label", "label!"}
)

// List describes the volumes that match f, by name.
func (m *Manager) List(f filter.Args) ([]volume.Volume, error) {
	dangling, err := f.Bool("dangling", false)
	if err != nil {
		return nil, err
	}
	match := f.Matcher("name")
	out := []volume.Volume{}
	for _, e := range m.all() {
		if f.Has("dangling") && (m.refs(e) == 0) != dangling {
			continue
		}
		if match(e.Name) && f.Exact("driver", e.Driver) && f.Labels("label", e.Labels) {
			out = append(out, m.describe(e))
		}
	}
	return out, nil
}

// all volumes, by name.
func (m *Manager) all() []*entry {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.SortedFunc(maps.Values(m.volumes), func(a, b *entry) int { return strings.Compare(a.Name, b.Name) })
}

func (m *Manager) refs(e *entry) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(e.users)
}

// Remove deletes the volume and its content. With force, one that is not
// there is no error.
func (m *Manager) Remove(ctx context.Context, name string, force bool) error {
	e, err := m.find(name)
	if err != nil {
		if force {
			return nil
		}
		return err
	}
	return m.remove(ctx, e)
}

func (m *Manager) remove(ctx context.Context, e *entry) error {
	release, err := e.begin(ctx)
	if err != nil {
		return err
	}
	defer release()
	if err := m.claim(e); err != nil {
		return err
	}
	if err := m.store.Delete(e.Name); err != nil {
		m.mu.Lock()
		e.gone = false
		m.mu.Unlock()
		return fmt.Errorf("cannot remove volume %s: %w", e.Name, err)
	}
	m.forget(e)
	m.publish(events.ActionDestroy, e.Name, map[string]string{"driver": e.Driver})
	return nil
}

// claim marks a volume as gone, so that nobody begins to use it, unless
// somebody does already.
func (m *Manager) claim(e *entry) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e.gone {
		return fault.NotFound("get %s: no such volume", e.Name)
	}
	if len(e.users) > 0 {
		return fault.Conflict("remove %s: volume is in use - [%s]", e.Name, strings.Join(slices.Sorted(maps.Keys(e.users)), ", "))
	}
	e.gone = true
	return nil
}

// Prune removes the volumes that no container uses and that match f:
// anonymous ones, or with the filter all every one.
func (m *Manager) Prune(ctx context.Context, f filter.Args) (volume.PruneReport, error) {
	report := volume.PruneReport{VolumesDeleted: []string{}}
	all, err := f.Bool("all", false)
	if err != nil {
		return report, err
	}
	for _, e := range m.all() {
		if _, anonymous := e.Labels[anonymousLabel]; !all && !anonymous {
			continue
		}
		if m.refs(e) > 0 || !f.Labels("label", e.Labels) || f.Has("label!") && f.Labels("label!", e.Labels) {
			continue
		}
		size, err := diskUsage(ctx, m.dataPath(e.Name))
		if err != nil {
			return report, err
		}
		if err := m.remove(ctx, e); err != nil {
			if errdefs.IsConflict(err) || errdefs.IsNotFound(err) {
				continue // someone was faster
			}
			return report, err
		}
		report.VolumesDeleted = append(report.VolumesDeleted, e.Name)
		report.SpaceReclaimed += uint64(size)
	}
	m.publish(events.ActionPrune, "", map[string]string{"reclaimed": strconv.FormatUint(report.SpaceReclaimed, 10)})
	return report, nil
}

// Usage describes every volume with its size and its number of users.
func (m *Manager) Usage(ctx context.Context) ([]volume.Volume, error) {
	out := []volume.Volume{}
	for _, e := range m.all() {
		size, err := diskUsage(ctx, m.dataPath(e.Name))
		if err != nil {
			return nil, err
		}
		v := m.describe(e)
		v.UsageData = &volume.UsageData{RefCount: int64(m.refs(e)), Size: size}
		out = append(out, v)
	}
	return out, nil
}
