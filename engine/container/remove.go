package container

import (
	"context"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/events"

	"github.com/kelp-engine/kelp/engine/crashpoint"
	"github.com/kelp-engine/kelp/engine/fault"
)

// RemoveOptions say how much goes with a container.
type RemoveOptions struct {
	Force   bool // kill it if it runs
	Volumes bool // its anonymous volumes too
	Link    bool // not a container but the link that the reference names
}

// Remove removes a container.
func (m *Manager) Remove(ctx context.Context, ref string, o RemoveOptions) error {
	if o.Link {
		return links{m.registry}.remove(ctx, ref, m.etcFiles)
	}
	c, err := m.Find(ref)
	if err != nil {
		return err
	}
	if c.Snapshot().State == Removing {
		return fault.Conflict("removal of container %s is already in progress", c.Snapshot().Name)
	}
	if r := c.Snapshot(); o.Force && r.State.Running() {
		// A stop under way holds the token for as long as it waits: the kill
		// does not wait for it.
		if err := m.kill(ctx, c, sigKill); err != nil && !isConflict(err) {
			return named(r, "kill", err)
		}
	}
	release, err := c.beginOp(ctx)
	if o.Force && errdefs.IsNotFound(err) {
		return nil // what killed it, or somebody else, removed it too
	}
	if err != nil {
		return err
	}
	defer release()
	m.settle(context.WithoutCancel(ctx), c)
	if err := m.mayRemove(ctx, c, o.Force); err != nil {
		return err
	}
	c.stopRestartTimer()
	return m.remove(context.WithoutCancel(ctx), c, o.Volumes)
}

// mayRemove refuses what is in use, or with force ends the use.
//
// Preconditions: the operation token is held.
func (m *Manager) mayRemove(ctx context.Context, c *Container, force bool) error {
	r := c.Snapshot()
	how := ""
	switch {
	case !r.State.Running() && r.State != Restarting, force && r.State == Restarting:
		return nil
	case force: // it was started again since the kill
		return m.stopWith(ctx, c, sigKill, 0, false)
	case r.State == Paused:
		how = "unpause and then stop the container before removing or force remove"
	default:
		how = "stop the container before removing or force remove"
	}
	return fault.Conflict("cannot remove container %q: container is %s: %s", "/"+r.Name, r.apiState(), how).
		WithHint("'docker rm -f %s' does both", r.Name)
}

// remove removes a container that does not run. The engine may die between
// any two lines: Recover goes on with what is Removing.
//
// Preconditions: the operation token is held.
func (m *runner) remove(ctx context.Context, c *Container, volumes bool) error {
	// A full disk does not keep anyone from making room: what is removed in
	// part can be removed again.
	logFailure(c.Snapshot(), "save the removal", m.happened(c, Removing, process, nil))
	crashpoint.Hit("container.remove.saved-intent")
	r := c.Snapshot()
	err := m.o.discard(ctx, r, volumes)
	crashpoint.Hit("container.remove.discarded")
	if err == nil {
		err = m.erase(r)
	}
	if err != nil {
		logFailure(r, "save the failed removal", m.happened(c, Dead, process, func(r *Record) { r.Error = err.Error() }))
		return named(r, "remove", err)
	}
	m.drop(c)
	crashpoint.Hit("container.remove.erased")
	c.mu.Lock()
	c.gone = true
	c.mu.Unlock()
	m.publish(r, events.ActionDestroy)
	c.broadcast()
	return nil
}
