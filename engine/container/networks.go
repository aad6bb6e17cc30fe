package container

import (
	"context"

	"github.com/kelp-engine/kelp/engine/fault"
)

// EditNetworks lets change act on a container on which no other operation
// works meanwhile, and saves what the function that it returns edits.
func (g *registry) EditNetworks(ctx context.Context, ref string, change func(context.Context, *Record) (edit func(*Record), err error)) error {
	c, err := g.Find(ref)
	if err != nil {
		return err
	}
	release, err := c.beginOp(ctx)
	if err != nil {
		return err
	}
	defer release()
	r := c.Snapshot()
	if r.State == Removing || r.State == Dead {
		return fault.Conflict("container %s is marked for removal and cannot be connected or disconnected", r.Name)
	}
	edit, err := change(ctx, r)
	if err != nil {
		return err
	}
	return g.change(c, power, edit)
}
