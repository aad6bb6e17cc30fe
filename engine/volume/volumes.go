package volume

import (
	"context"
	"strconv"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/volume"

	"github.com/kelp-engine/kelp/engine/fault"
	"github.com/kelp-engine/kelp/engine/filter"
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
		if m.refs(e) > 0 || !f.PruneLabels(e.Labels) {
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
