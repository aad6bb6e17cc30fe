package engine

import (
	"context"
	"errors"

	"github.com/moby/moby/api/types/events"

	"github.com/kelp-engine/kelp/engine/container"
	"github.com/kelp-engine/kelp/engine/fault"
	"github.com/kelp-engine/kelp/image"
)

// Commit makes an image of a container's files and returns its Id. With pause
// the container's processes stand still meanwhile, so that the files agree
// with each other.
func (e *Engine) Commit(ctx context.Context, ref string, o image.CommitOptions, pause bool) (id string, err error) {
	c, err := e.Containers.Find(ref)
	if err != nil {
		return "", err
	}
	r := c.Snapshot()
	if r.State == container.Removing || r.State == container.Dead {
		return "", fault.Conflict("you cannot commit container %s which is %s", r.ID, r.State)
	}
	if pause && r.State == container.Running {
		if err := e.Containers.Pause(ctx, r.ID); err != nil {
			return "", err
		}
		defer func() {
			if uerr := e.Containers.Unpause(context.WithoutCancel(ctx), r.ID); uerr != nil {
				err = errors.Join(err, uerr)
			}
		}()
	}
	o.Container = r.Config
	if id, err = e.Images.Commit(ctx, r.ID, o); err != nil {
		return "", err
	}
	e.Containers.Publish(c, events.ActionCommit, "comment", o.Comment, "imageID", id, "imageRef", o.Reference)
	return id, nil
}
