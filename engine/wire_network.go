package engine

import (
	"context"

	types "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/system"

	"github.com/kelp-engine/kelp/engine/container"
	"github.com/kelp-engine/kelp/engine/network"
)

// containerNetworks connects containers to networks.
type containerNetworks struct{ *network.Manager }

// networkView is what networks know of a container.
func networkView(r *container.Record) *network.Container {
	return &network.Container{
		ID: r.ID, Name: r.Name, Running: r.State.Running(),
		Config: r.Config, HostConfig: r.HostConfig, Endpoints: r.Networks,
		Addresses: r.Addresses, HostPorts: r.HostPorts,
	}
}

// Attach implements container.Networks.
func (n containerNetworks) Attach(ctx context.Context, r *container.Record) (*container.Network, error) {
	a, err := n.Manager.Attach(ctx, networkView(r))
	if err != nil {
		return nil, err
	}
	return (*container.Network)(a), nil
}

// Settings implements container.Networks.
func (n containerNetworks) Settings(r *container.Record) *types.NetworkSettings {
	return n.Manager.Settings(networkView(r))
}

// Remove implements container.Networks.
func (n containerNetworks) Remove(ctx context.Context, id string) error {
	if err := n.Detach(ctx, id); err != nil {
		return err
	}
	n.Forget(id)
	return nil
}

// Check implements container.NetworkUse.
func (n containerNetworks) Check(r *container.Record) ([]string, error) {
	return n.Manager.Check(networkView(r))
}

// Adopt implements container.NetworkUse.
func (n containerNetworks) Adopt(r *container.Record) {
	c := networkView(r)
	c.Running = c.Running || r.State == container.Starting // it may have come to run
	n.Manager.Adopt(c)
}

// Renamed implements container.Networks.
func (n containerNetworks) Renamed(ctx context.Context, r *container.Record) error {
	return n.Manager.Renamed(ctx, networkView(r))
}

// networkContainers shows containers to networks.
type networkContainers struct{ *container.Manager }

// NameOf implements network.Containers.
func (c networkContainers) NameOf(id string) string {
	found, err := c.Find(id)
	if err != nil {
		return ""
	}
	return found.Snapshot().Name
}

// Lookup implements network.Containers.
func (c networkContainers) Lookup(ref string) *network.Container {
	found, err := c.Find(ref)
	if err != nil {
		return nil
	}
	return networkView(found.Snapshot())
}

// EditNetworks implements network.Containers.
func (c networkContainers) EditNetworks(ctx context.Context, ref string, change func(context.Context, *network.Container) error) error {
	return c.Manager.EditNetworks(ctx, ref, func(ctx context.Context, r *container.Record) (func(*container.Record), error) {
		v := networkView(r)
		err := change(ctx, v)
		return func(r *container.Record) { r.Networks, r.Addresses = v.Endpoints, v.Addresses }, err
	})
}

// UpdateFiles implements network.Containers.
func (c networkContainers) UpdateFiles(id string, before, now *network.Attachment) error {
	return c.Manager.UpdateFiles(id, (*container.Network)(before), (*container.Network)(now))
}

// active says whether a container runs, or is on the way there.
func (c networkContainers) active(id string) bool {
	found, err := c.Find(id)
	if err != nil {
		return false
	}
	switch found.Snapshot().State {
	case container.Creating, container.Created, container.Exited, container.Removing, container.Dead:
		return false
	}
	return true
}

// addressPools are the user's pools as /info shows them.
func addressPools(d network.Defaults) []system.NetworkAddressPool {
	var all []system.NetworkAddressPool
	for _, p := range d.Pools {
		all = append(all, system.NetworkAddressPool{Base: p.Base, Size: p.Size})
	}
	return all
}
