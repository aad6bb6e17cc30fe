package container

import (
	"context"
	"errors"
	"log/slog"
	"strconv"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/events"

	"github.com/kelp-engine/kelp/engine/crashpoint"
	"github.com/kelp-engine/kelp/engine/keeper"
)

func isNotFound(err error) bool { return errors.Is(err, errdefs.ErrNotFound) }
func isConflict(err error) bool { return errors.Is(err, errdefs.ErrConflict) }

func isNotModified(err error) bool { return errors.Is(err, errdefs.ErrNotModified) }

// watch follows what the keeper tells of processes until the manager closes.
func (m *runner) watch(ctx context.Context) {
	for {
		err := m.o.Tasks.Watch(ctx, func(t keeper.Task) error {
			m.taskChanged(ctx, t)
			return nil
		})
		if ctx.Err() != nil {
			return
		}
		slog.Warn("the keeper stopped telling of processes; asking again", "error", err)
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return
		}
	}
}

// taskChanged acts on the end of a process, or its lack of memory.
func (m *runner) taskChanged(ctx context.Context, t keeper.Task) {
	if t.Exec != "" {
		m.probes.taskChanged(ctx, t)
		return
	}
	c := m.byExactID(t.Container)
	switch {
	case c == nil:
	case t.Status == keeper.Exited:
		c.noteExit(t)
		m.bg.run(func(ctx context.Context) {
			release, err := c.beginOp(ctx)
			if err != nil {
				return // removed, or the next engine's business
			}
			defer release()
			m.settle(context.WithoutCancel(ctx), c)
		})
	case t.OOMKilled:
		m.publish(c.Snapshot(), events.ActionOOM)
	}
}

// settle does what follows from the end of the container's process, if it has
// ended and nobody did so yet.
//
// Preconditions: the operation token is held.
func (m *runner) settle(ctx context.Context, c *Container) {
	r := c.Snapshot()
	if !r.State.Running() {
		return
	}
	if t := c.exitOf(r.Process); t != nil {
		m.finish(ctx, c, *t)
	}
}

// finish records the end of the container's process and decides what follows:
// rest, another start, or removal. Waiters wake when all that the container
// held is free again. The engine may die between any two lines: the keeper
// remembers the exit until it is told to forget it.
//
// Preconditions: the operation token is held; the state is one that runs.
func (m *runner) finish(ctx context.Context, c *Container, t keeper.Task) {
	c.stopHealth()
	r := c.Snapshot()
	crashpoint.Hit("container.exit.seen")
	m.o.free(ctx, r)
	crashpoint.Hit("container.exit.freed")

	ended := *r
	ended.ExitCode, ended.FinishedAt = t.ExitCode, t.ExitedAt
	wait, again := m.restartAfter(&ended)
	to := Exited
	if again {
		to = Restarting
	}
	err := m.happened(c, to, process, func(r *Record) {
		r.ExitCode, r.FinishedAt, r.OOMKilled = t.ExitCode, t.ExitedAt.UTC(), t.OOMKilled
		r.Health, r.Ending = endedHealth(r.Health), nil
		if again {
			r.RestartCount++
		}
	})
	logFailure(r, "save the exit", err)
	crashpoint.Hit("container.exit.saved")
	m.publish(c.Snapshot(), events.ActionDie,
		"exitCode", strconv.Itoa(t.ExitCode),
		"execDuration", strconv.Itoa(int(t.ExitedAt.Sub(r.StartedAt).Seconds())))
	if err == nil {
		if err := m.o.Tasks.Forget(ctx, keeper.Ref{Container: c.id}); err != nil && !isNotFound(err) {
			logFailure(r, "forget the process", err)
		}
	}
	crashpoint.Hit("container.exit.forgotten")
	switch {
	case again:
		m.restartIn(c, wait)
	case r.HostConfig.AutoRemove && !r.StartAgain: // that is for those that end for good
		logFailure(r, "remove the remains", m.remove(ctx, c, true))
	}
}
