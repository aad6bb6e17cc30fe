package exec

import (
	"context"
	"log/slog"
	"strconv"
	"time"

	"github.com/moby/moby/api/types/events"

	"github.com/kelp-engine/kelp/engine/keeper"
)

// Recover brings in the execs of the last engine, and follows from then on
// what the keeper tells. Containers must have been recovered.
func (m *Manager) Recover(ctx context.Context) error {
	docs, errs, err := m.store.All()
	if err != nil {
		return err
	}
	for id, err := range errs {
		slog.Warn("left out an exec whose record cannot be read", "exec", id, "error", err)
		_ = m.store.DeleteRecent(id)
	}
	for _, r := range docs {
		x := m.add(*r)
		if r.State != Created {
			close(x.started)
		}
		if r.State == Running {
			m.adopt(ctx, x)
		}
	}
	m.prune()
	ctx, m.stop = context.WithCancel(context.WithoutCancel(ctx))
	m.done.Go(func() { m.watch(ctx) })
	return nil
}

// adopt takes up a process that the last engine had started, or sets the exec
// to ended: that engine died before the keeper was asked. An end that came since
// is told by watch.
func (m *Manager) adopt(ctx context.Context, x *instance) {
	t, err := m.o.Processes.Task(ctx, x.rec.ref())
	switch {
	case err == nil:
		x.mu.Lock()
		defer x.mu.Unlock()
		x.rec.PID = t.PID
	case isNotFound(err):
		m.setFailed(x, 126)
	default:
		slog.Error("cannot ask for an exec's process", "exec", x.rec.ID, "error", err)
	}
}

// watch follows what the keeper tells of processes until ctx ends.
func (m *Manager) watch(ctx context.Context) {
	for {
		err := m.o.Processes.Watch(ctx, func(t keeper.Task) error {
			if t.Exec != "" && t.Status == keeper.Exited {
				m.exited(ctx, t)
			}
			return nil
		})
		if ctx.Err() != nil {
			return
		}
		slog.Warn("the keeper stopped telling of execs; asking again", "error", err)
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return
		}
	}
}

// exited records the end of an exec, whoever hears of it first.
func (m *Manager) exited(ctx context.Context, t keeper.Task) {
	x, err := m.find(t.Exec)
	if err != nil {
		return // not one of ours, such as a health check
	}
	if !m.recordExit(x, t) {
		return
	}
	m.o.Containers.PublishOf(t.Container, events.ActionExecDie, "execID", t.Exec, "exitCode", strconv.Itoa(t.ExitCode))
	if err := m.o.Processes.Forget(ctx, t.Ref); err != nil && !isNotFound(err) && ctx.Err() == nil {
		slog.Warn("cannot have the keeper forget an exec", "exec", t.Exec, "error", err)
	}
}

// recordExit says whether it was the first to know. The keeper remembers the
// exit until it is saved here.
func (m *Manager) recordExit(x *instance, t keeper.Task) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.rec.State == Exited {
		return false
	}
	x.rec.State, x.rec.PID, x.rec.ExitCode, x.rec.Ended = Exited, t.PID, t.ExitCode, t.ExitedAt.UTC()
	if err := m.save(&x.rec); err != nil {
		slog.Error("cannot keep the end of an exec", "exec", x.rec.ID, "error", err)
	}
	return true
}
