package container

import (
	"context"

	"github.com/kelp-engine/kelp/engine/keeper"
	"github.com/kelp-engine/kelp/engine/logs"
)

// Log names the container's log.
func (m viewer) Log(c *Container) logs.Log {
	t, err := logTarget(c.Snapshot(), m.dir(c.id))
	if err != nil {
		t = keeper.Log{Driver: noLog} // refused at create by now: an old record
	}
	return logs.Log{Driver: t.Driver, Path: t.Path}
}

// Ended returns a channel that closes when the run that goes on now has ended
// and its log is whole; at once when there is none, and never after ctx has
// ended. A restart begins another run.
func (c *Container) Ended(ctx context.Context) <-chan struct{} {
	ended := make(chan struct{})
	process := c.Snapshot().Process
	go func() {
		err := c.await(ctx, func(r *Record, _ *keeper.Task, gone bool) bool {
			return gone || !r.State.Running() || !sameProcess(r.Process, process)
		})
		if err == nil {
			close(ended)
		}
	}()
	return ended
}
