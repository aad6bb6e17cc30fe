package container

import (
	"context"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"

	"github.com/kelp-engine/kelp/engine/container/ps"
	"github.com/kelp-engine/kelp/engine/fault"
)

// Top lists the processes of a running container the way `ps` does with the
// given arguments; none are "-ef".
func (m viewer) Top(ctx context.Context, ref, args string) (container.TopResponse, error) {
	var none container.TopResponse
	format, err := ps.Parse(strings.Fields(args))
	if err != nil {
		return none, err
	}
	c, err := m.Find(ref)
	if err != nil {
		return none, err
	}
	r := c.Snapshot()
	switch {
	case r.State == Restarting:
		return none, fault.Conflict("container %s is restarting, wait until the container is running", r.ID)
	case !r.State.Running():
		return none, fault.Conflict("container %s is not running", r.ID)
	}
	pids, err := m.o.Tasks.Processes(ctx, c.id)
	if err != nil {
		return none, err
	}
	slices.Sort(pids)
	rows, err := format.Rows(pids)
	if err != nil {
		return none, err
	}
	m.publish(r, events.ActionTop)
	return container.TopResponse{Titles: format.Titles(), Processes: rows}, nil
}
