package container

import (
	"context"

	"github.com/moby/moby/api/types/container"

	"github.com/kelp-engine/kelp/engine/fault"
	"github.com/kelp-engine/kelp/engine/keeper"
)

// Waiter waits for a container from the moment that Wait made it.
type Waiter struct {
	c    *Container
	cond container.WaitCondition
	from uint64 // Record.Rests when the wait began
}

// Wait begins to wait for a condition; "" is that it does not run.
func (m *Manager) Wait(ref string, cond container.WaitCondition) (*Waiter, error) {
	switch cond {
	case "":
		cond = container.WaitConditionNotRunning
	case container.WaitConditionNotRunning, container.WaitConditionNextExit, container.WaitConditionRemoved:
	default:
		return nil, fault.InvalidArgument("invalid condition: %q", cond)
	}
	c, err := m.Find(ref)
	if err != nil {
		return nil, err
	}
	return &Waiter{c: c, cond: cond, from: c.Snapshot().Rests}, nil
}

// Result returns the exit code once the condition holds, and what kept the
// container from being removed if that failed.
func (w *Waiter) Result(ctx context.Context) (code int, message string, err error) {
	err = w.c.await(ctx, func(r *Record, _ *keeper.Task, gone bool) bool {
		switch {
		case gone:
			return true
		case w.cond == container.WaitConditionRemoved:
			return r.State == Dead
		case w.cond == container.WaitConditionNextExit:
			return r.Rests > w.from
		default:
			return r.State.atRest()
		}
	})
	r := w.c.Snapshot()
	if r.State == Dead {
		message = r.Error
	}
	return r.ExitCode, message, err
}
