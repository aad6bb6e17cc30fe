package container

import (
	"context"

	"github.com/moby/moby/api/types/events"

	"github.com/kelp-engine/kelp/engine/crashpoint"
	"github.com/kelp-engine/kelp/engine/fault"
)

// Pause stops all processes of a running container where they are.
func (m *Manager) Pause(ctx context.Context, ref string) error {
	c, release, err := hold(ctx, m.runner, ref)
	if err != nil {
		return err
	}
	defer release()
	ctx = context.WithoutCancel(ctx) // the keeper does it whether the client waits or not
	switch r := c.Snapshot(); r.State {
	case Running:
	case Paused:
		return fault.Conflict("container %s is already paused", r.ID)
	case Restarting:
		return fault.Conflict("container %s is restarting, wait until the container is running", r.ID)
	default:
		return fault.Conflict("container %s is not running", r.ID)
	}
	if err := m.o.Processes.Pause(ctx, c.id); err != nil {
		return named(c.Snapshot(), "pause", err)
	}
	crashpoint.Hit("container.pause.paused")
	logFailure(c.Snapshot(), "save the pause", m.happened(c, Paused, process, nil))
	c.stopHealth() // a check could not come to an end
	m.publish(c.Snapshot(), events.ActionPause)
	return nil
}

// Unpause lets a paused container go on.
func (m *Manager) Unpause(ctx context.Context, ref string) error {
	c, release, err := hold(ctx, m.runner, ref)
	if err != nil {
		return err
	}
	defer release()
	ctx = context.WithoutCancel(ctx)
	if r := c.Snapshot(); r.State != Paused {
		return fault.Conflict("container %s is not paused", r.ID)
	}
	if err := m.o.Processes.Resume(ctx, c.id); err != nil {
		return named(c.Snapshot(), "unpause", err)
	}
	crashpoint.Hit("container.unpause.resumed")
	logFailure(c.Snapshot(), "save the end of the pause", m.happened(c, Running, process, nil))
	m.publish(c.Snapshot(), events.ActionUnPause)
	m.watchHealth(c)
	return nil
}
