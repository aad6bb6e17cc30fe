package network

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/network"

	"github.com/kelp-engine/kelp/engine/crashpoint"
	"github.com/kelp-engine/kelp/engine/fault"
	"github.com/kelp-engine/kelp/engine/keeper"
)

// Connect puts a container, running or not, on one more network.
func (m *Manager) Connect(ctx context.Context, ref string, req network.ConnectRequest) error {
	r, err := m.find(ref)
	if err != nil {
		return err
	}
	return m.containers.EditNetworks(ctx, req.Container, func(ctx context.Context, c *Container) error {
		if err := m.checkConnect(r, c); err != nil {
			return err
		}
		cfg := req.EndpointConfig.Copy()
		if cfg == nil {
			cfg = &network.EndpointSettings{}
		}
		if err := checkEndpoint(wish{r, cfg}); err != nil {
			return err
		}
		endpoints := m.named(c)
		if m.live(c.ID) {
			if err := m.connectLive(ctx, c, wish{r, cfg}); err != nil {
				return err
			}
		}
		crashpoint.Hit("network.connect.made")
		delete(endpoints, network.NetworkNone) // what Disconnect left in place of nothing
		endpoints[r.Name] = cfg
		m.connectedNow(c, endpoints)
		return nil
	})
}

// connectedNow notes in c that these are its endpoints, whether it is live or
// not, and reserves what it asks for.
func (m *joints) connectedNow(c *Container, endpoints map[string]*network.EndpointSettings) {
	c.Endpoints = endpoints
	if m.live(c.ID) {
		m.mu.Lock()
		c.Addresses = addressesOf(m.connected(c.ID))
		m.mu.Unlock()
		return
	}
	m.Forget(c.ID)
	c.Addresses = maps.Clone(c.Addresses)
	maps.DeleteFunc(c.Addresses, func(id string, _ []netip.Addr) bool { return !m.names(endpoints, id) })
	m.Adopt(c)
}

// names says whether one of the endpoints is on the network.
func (m *table) names(endpoints map[string]*network.EndpointSettings, networkID string) bool {
	for ref := range endpoints {
		if m.is(ref, networkID) {
			return true
		}
	}
	return false
}

// checkConnect refuses what cannot be connected.
func (m *joints) checkConnect(r *Record, c *Container) error {
	if err := r.checkUsable(); err != nil {
		return err
	}
	mode := c.HostConfig.NetworkMode
	switch {
	case mode.IsHost() || r.Driver == driverHost:
		return fault.InvalidArgument("container cannot be connected to host network, nor disconnected from it")
	case mode.IsContainer():
		return fault.InvalidArgument("container sharing network namespace with another container or host cannot be connected to any other network")
	case mode.IsNone() || r.Driver == driverNull:
		return fault.InvalidArgument("container cannot be connected to multiple networks with one of the networks in private (none) mode")
	}
	for ref := range m.named(c) {
		if m.is(ref, r.ID) {
			return fault.PermissionDenied("endpoint with name %s already exists in network %s", c.Name, r.Name)
		}
	}
	return nil
}

// named are the endpoints of a container, the implied one included.
func (m *joints) named(c *Container) map[string]*network.EndpointSettings {
	if len(c.Endpoints) > 0 {
		return cloneEndpoints(c.Endpoints)
	}
	return map[string]*network.EndpointSettings{string(c.HostConfig.NetworkMode): {}}
}

// live says whether the container has a sandbox.
func (m *joints) live(containerID string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.attached[containerID] != nil
}

// connectLive connects a running container.
func (m *Manager) connectLive(ctx context.Context, c *Container, w wish) error {
	m.mu.Lock()
	if m.networks[w.net.ID] != w.net {
		m.mu.Unlock()
		return fault.NotFound("network %s not found", w.net.Name)
	}
	e, err := m.beside(c, w, m.connected(c.ID))
	m.mu.Unlock()
	if err != nil {
		return err
	}
	err = m.o.Bridges.EnsureNetwork(ctx, w.net.keeper())
	if err == nil {
		err = m.o.Bridges.ConnectEndpoint(ctx, c.ID, e)
	}
	if err != nil {
		m.mu.Lock()
		m.freeAll([]keeper.Endpoint{e})
		m.mu.Unlock()
		return err
	}
	m.mu.Lock()
	before := m.connected(c.ID)
	if a := m.attached[c.ID]; a != nil {
		a.state.Endpoints = append(slices.Clone(a.state.Endpoints), e)
	}
	m.mu.Unlock()
	etc{m.joints}.update(m.o.Defaults.resolve(c), before)
	m.publish(w.net, events.ActionConnect, map[string]string{"container": c.ID})
	return nil
}

// beside is endpoint in a sandbox that has others.
//
// Preconditions: m.mu is held.
func (m *joints) beside(c *Container, w wish, others []keeper.Endpoint) (keeper.Endpoint, error) {
	uses := func(device string) bool {
		return slices.ContainsFunc(others, func(e keeper.Endpoint) bool { return e.Interface == device })
	}
	for _, e := range others {
		if err := m.checkOverlap(w.net, e); err != nil {
			return keeper.Endpoint{}, err
		}
	}
	device := w.cfg.DriverOpts[optIfname]
	if device != "" && uses(device) {
		return keeper.Endpoint{}, fault.InvalidArgument("container %s has an interface %s already", c.Name, device)
	}
	for i := 0; device == ""; i++ {
		if name := fmt.Sprintf("%s%d", ifacePrefix(w.net), i); !uses(name) {
			device = name
		}
	}
	return m.endpoint(c, w, device)
}

// checkOverlap refuses a network whose addresses a container already knows as
// another network's.
//
// Preconditions: m.mu is held.
func (m *joints) checkOverlap(r *Record, e keeper.Endpoint) error {
	other := m.networks[e.NetworkID]
	if other == nil {
		return nil
	}
	for _, a := range r.IPAM.Config {
		for _, b := range other.IPAM.Config {
			if a.Subnet.Overlaps(b.Subnet) {
				return fault.PermissionDenied("the container is on network %s, which has the addresses %s as well", other.Name, b.Subnet)
			}
		}
	}
	return nil
}

// Disconnect takes a container, running or not, off a network. With force it
// does so where the network itself is not there any more.
func (m *Manager) Disconnect(ctx context.Context, ref string, req network.DisconnectRequest) error {
	r, err := m.find(ref)
	if errdefs.IsNotFound(err) && req.Force {
		return disconnectGone(ctx, m.joints, ref, req.Container, err)
	}
	if err != nil {
		return err
	}
	return m.containers.EditNetworks(ctx, req.Container, func(ctx context.Context, c *Container) error {
		if c.HostConfig.NetworkMode.IsHost() {
			return fault.InvalidArgument("container cannot be disconnected from host network or connected to host network")
		}
		if c.HostConfig.NetworkMode.IsNone() && r.Driver == driverNull {
			return fault.PermissionDenied("container %s was made without a network and stays so", c.Name).
				WithHint("make another with 'docker create --network'")
		}
		endpoints := m.named(c)
		found := ""
		for ref := range endpoints {
			if m.is(ref, r.ID) {
				found = ref
			}
		}
		if found == "" {
			return fault.PermissionDenied("container %s is not connected to network %s", c.Name, r.Name)
		}
		if err := m.disconnectLive(ctx, c, r); err != nil {
			return err
		}
		crashpoint.Hit("network.disconnect.made")
		m.connectedNow(c, without(endpoints, found))
		return nil
	})
}

// disconnectGone is Disconnect for a network that was removed while the
// container was at rest; gone is the error that says so.
func disconnectGone(ctx context.Context, m *joints, ref, container string, gone error) error {
	return m.containers.EditNetworks(ctx, container, func(_ context.Context, c *Container) error {
		endpoints := m.named(c)
		if _, named := endpoints[ref]; !named {
			return gone
		}
		m.connectedNow(c, without(endpoints, ref))
		return nil
	})
}

// without are endpoints but for one.
func without(endpoints map[string]*network.EndpointSettings, ref string) map[string]*network.EndpointSettings {
	delete(endpoints, ref)
	if len(endpoints) == 0 { // the mode must not imply it again
		endpoints[network.NetworkNone] = &network.EndpointSettings{}
	}
	return endpoints
}

// disconnectLive takes a container's endpoint off, live if there is a live one.
func (m *Manager) disconnectLive(ctx context.Context, c *Container, r *Record) error {
	m.mu.Lock()
	e, on := m.users(r)[c.ID]
	m.mu.Unlock()
	if !on {
		m.publish(r, events.ActionDisconnect, map[string]string{"container": c.ID})
		return nil
	}
	if err := m.o.Bridges.DisconnectEndpoint(ctx, c.ID, e.EndpointID); err != nil {
		return err
	}
	m.mu.Lock()
	before := m.connected(c.ID)
	if a := m.attached[c.ID]; a != nil {
		a.state.Endpoints = slices.DeleteFunc(slices.Clone(a.state.Endpoints), func(o keeper.Endpoint) bool { return o.EndpointID == e.EndpointID })
	}
	m.freeAll([]keeper.Endpoint{e})
	m.mu.Unlock()
	etc{m.joints}.update(m.o.Defaults.resolve(c), before)
	m.publish(r, events.ActionDisconnect, map[string]string{"container": c.ID})
	return nil
}

// Renamed tells the networks that a container has another name.
func (m *Manager) Renamed(ctx context.Context, c *Container) error {
	m.mu.Lock()
	endpoints := slices.Clone(m.connected(c.ID))
	m.mu.Unlock()
	for i, e := range endpoints {
		r, err := m.find(e.NetworkID)
		if err != nil || r.isDefault() {
			continue
		}
		cfg := m.named(c)[r.Name]
		if cfg == nil {
			cfg = &network.EndpointSettings{}
		}
		names := dnsNames(c, cfg)
		if err := m.o.Bridges.RenameEndpoint(ctx, c.ID, e.EndpointID, names); err != nil {
			return err
		}
		endpoints[i].DNSNames = names
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if a := m.attached[c.ID]; a != nil {
		a.state.Endpoints = endpoints
	}
	return nil
}
