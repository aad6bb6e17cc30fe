package container

import (
	"context"
	"strconv"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"

	"github.com/kelp-engine/kelp/engine/filter"
)

// PruneKeys are the keys that Prune's filter may have.
var PruneKeys = []string{"label", "label!", "until"}

// Prune removes the containers that are at rest and match the filter.
func (m *Manager) Prune(ctx context.Context, f filter.Args) (container.PruneReport, error) {
	report := container.PruneReport{ContainersDeleted: []string{}}
	until, err := f.Until(time.Now())
	if err != nil {
		return report, err
	}
	for _, c := range m.All() {
		if ctx.Err() != nil {
			break // what is done is told
		}
		r := c.Snapshot()
		if r.State != Created && r.State != Exited && r.State != Dead ||
			!until.IsZero() && !r.Created.Before(until) ||
			!f.PruneLabels(r.Config.Labels) {
			continue
		}
		size, _, err := m.o.RootFS.RootFSSize(r.ID)
		if err != nil {
			size = 0 // its files may be what is broken
		}
		if err := m.Remove(ctx, r.ID, RemoveOptions{}); err != nil {
			logFailure(r, "prune the remains", err)
			continue
		}
		report.ContainersDeleted = append(report.ContainersDeleted, r.ID)
		report.SpaceReclaimed += uint64(max(size, 0))
	}
	m.events.Publish(events.ContainerEventType, events.ActionPrune, "", map[string]string{
		"reclaimed": strconv.FormatUint(report.SpaceReclaimed, 10),
	})
	return report, nil
}
