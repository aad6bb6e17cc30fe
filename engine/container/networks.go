package container

import (
	"context"

	"github.com/moby/moby/api/types/network"

	"github.com/kelp-engine/kelp/engine/fault"
)

// EditNetworks lets change act on a container on which no other operation
// works meanwhile, and saves the endpoints that it returns.
func (g *registry) EditNetworks(ctx context.Context, ref string, change func(context.Context, *Record) (map[string]*network.EndpointSettings, error)) error {
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
	endpoints, err := change(ctx, r)
	if err != nil {
		return err
	}
	return g.change(c, power, func(r *Record) { r.Networks = endpoints })
}
