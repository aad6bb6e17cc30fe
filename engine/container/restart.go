package container

import (
	"context"
	"log/slog"
	"time"

	"github.com/kelp-engine/kelp/engine/keeper"
)

// Waits before a restart: doubled with each, from the first again when the
// container had run for a while.
const (
	firstRestartWait = 100 * time.Millisecond
	maxRestartWait   = time.Minute
	steadyRun        = 10 * time.Second
	// parallelRestarts is how many containers are started at once, such as
	// after a boot.
	parallelRestarts = 8
	// joinPatience is how long a restart waits for those that it joins.
	joinPatience = 30 * time.Second
)

// restartAfter says whether the policy starts the container again after the
// end that r tells of, and in what time.
func (m *runner) restartAfter(r *Record) (time.Duration, bool) {
	if m.isStopping() || !restarts(r) {
		return 0, false
	}
	if r.FinishedAt.Sub(r.StartedAt) >= steadyRun {
		return firstRestartWait, true
	}
	return min(firstRestartWait<<min(r.RestartCount, 16), maxRestartWait), true
}

func restarts(r *Record) bool {
	p := r.HostConfig.RestartPolicy
	switch {
	case r.StoppedByUser:
		return false
	case p.IsAlways(), p.IsUnlessStopped():
		return true
	case p.IsOnFailure():
		return r.ExitCode != 0 && (p.MaximumRetryCount == 0 || r.RestartCount < p.MaximumRetryCount)
	default:
		return false
	}
}

// startedByPolicy says of a container that is being started whether its
// restart policy wants it, rather than a client alone.
func (r *Record) startedByPolicy() bool {
	p := r.HostConfig.RestartPolicy
	return !r.StoppedByUser && (p.IsAlways() || p.IsUnlessStopped() || p.IsOnFailure() && r.RestartCount > 0)
}

// restartsAtBoot says whether the policy starts a container at rest when a
// new keeper starts.
func restartsAtBoot(r *Record) bool {
	p := r.HostConfig.RestartPolicy
	return !r.StartedAt.IsZero() && (p.IsAlways() || p.IsUnlessStopped() && !r.StoppedByUser)
}

func (m *runner) isStopping() bool {
	select {
	case <-m.stopping:
		return true
	default:
		return m.bg.closed()
	}
}

// restartIn starts the container, which is Restarting, after a time.
func (m *runner) restartIn(c *Container, wait time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.restart != nil {
		c.restart.Stop()
	}
	c.restart = time.AfterFunc(wait, func() {
		if !m.isStopping() {
			m.bg.run(func(ctx context.Context) { m.restartNow(ctx, c) })
		}
	})
}

// stopRestartTimer keeps a container that is Restarting from being started.
func (c *Container) stopRestartTimer() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.restart != nil {
		c.restart.Stop()
		c.restart = nil
	}
}

// awaitJoined waits until the containers whose namespaces c joins are started
// too, where that is under way, as after a boot. It does not wait for ever: two
// that join each other never start.
func awaitJoined(ctx context.Context, all *registry, c *Container) {
	ctx, cancel := context.WithTimeout(ctx, joinPatience)
	defer cancel()
	h := c.Snapshot().HostConfig
	for _, other := range []string{
		h.NetworkMode.ConnectedContainer(), h.IpcMode.Container(), h.PidMode.Container(),
	} {
		if donor, err := all.Find(other); other != "" && err == nil {
			_ = donor.await(ctx, func(r *Record, _ *keeper.Task, gone bool) bool {
				return gone || r.State != Restarting && r.State != Starting
			})
		}
	}
}

func (m *runner) restartNow(ctx context.Context, c *Container) {
	awaitJoined(ctx, m.registry, c)
	release, err := c.beginOp(ctx)
	if err != nil {
		return
	}
	defer release()
	select {
	case m.slots <- struct{}{}:
		defer func() { <-m.slots }()
	case <-ctx.Done():
		return
	}
	r := c.Snapshot()
	if r.State != Restarting || m.isStopping() {
		return
	}
	if err := m.start(ctx, c, nil); err != nil {
		slog.Warn("cannot restart a container; giving up", "container", r.Name, "id", r.ID, "error", err)
	}
}
