package network

import (
	"maps"
	"slices"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"

	"github.com/kelp-engine/kelp/engine/keeper"
)

// Settings shows how a container is connected, or would be when it ran.
func (m *Manager) Settings(c *Container) *container.NetworkSettings {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := &container.NetworkSettings{Ports: network.PortMap{}, Networks: map[string]*network.EndpointSettings{}}
	mode := c.HostConfig.NetworkMode
	if mode.IsContainer() {
		return s
	}
	live := m.attached[c.ID]
	if live != nil {
		s.SandboxID, s.SandboxKey = c.ID, live.state.Path
		s.Ports = portMap(c, live.state.Bound)
	}
	if m.outside[c.ID] != nil {
		s.SandboxID = c.ID
	}
	asked := c.Endpoints
	if len(asked) == 0 {
		asked = map[string]*network.EndpointSettings{string(mode): nil}
	}
	for ref, cfg := range asked {
		name, e := ref, wished(cfg)
		if r, err := m.findLocked(ref); err == nil {
			if r.Driver == driverNull && !mode.IsNone() {
				continue // what Disconnect left in place of nothing
			}
			name, e.NetworkID = r.Name, r.ID
			if live != nil {
				fill(e, r, live.state.Endpoints)
			}
			if m.outside[c.ID] == r {
				e.EndpointID = outsideID(c.ID, r)
			}
			if !r.isDefault() && r.Driver != driverHost && r.Driver != driverNull {
				e.DNSNames = dnsNames(c, e)
			}
		}
		s.Networks[name] = e
	}
	return s
}

// wished is what of a client's settings is a wish: it may as well have sent
// all that it was once told of another container's endpoint.
func wished(cfg *network.EndpointSettings) *network.EndpointSettings {
	c := cfg.Copy()
	if c == nil {
		return &network.EndpointSettings{}
	}
	return &network.EndpointSettings{
		IPAMConfig: c.IPAMConfig, Links: c.Links, Aliases: c.Aliases, MacAddress: c.MacAddress,
		DriverOpts: c.DriverOpts, GwPriority: c.GwPriority,
	}
}

// fill adds to e what the live endpoint on the network has.
func fill(e *network.EndpointSettings, r *Record, live []keeper.Endpoint) {
	i := slices.IndexFunc(live, func(l keeper.Endpoint) bool { return l.NetworkID == r.ID })
	if i < 0 {
		return
	}
	e.EndpointID = live[i].EndpointID
	_ = e.MacAddress.UnmarshalText([]byte(live[i].MAC)) // of our own making
	for _, a := range r.own(live[i]) {
		if a.Addr().Is4() {
			e.IPAddress, e.IPPrefixLen, e.Gateway = a.Addr(), a.Bits(), r.gateway(false)
		} else {
			e.GlobalIPv6Address, e.GlobalIPv6PrefixLen, e.IPv6Gateway = a.Addr(), a.Bits(), r.gateway(true)
		}
	}
	if r.inside() {
		e.Gateway, e.IPv6Gateway = network.EndpointSettings{}.Gateway, network.EndpointSettings{}.IPv6Gateway
	}
}

// inspect shows a network with the containers that are connected to it.
//
// Preconditions: m.mu is held.
func (m *joints) inspect(r *Record) network.Inspect {
	in := network.Inspect{Network: r.api(), Containers: map[string]network.EndpointResource{}}
	if !r.ConfigOnly {
		in.Status = m.status(r)
	}
	for id, a := range m.attached {
		for _, e := range a.state.Endpoints {
			if e.NetworkID == r.ID {
				in.Containers[id] = m.resource(r, id, e)
			}
		}
	}
	for id, net := range m.outside {
		if net == r {
			in.Containers[id] = network.EndpointResource{Name: m.containers.NameOf(id), EndpointID: outsideID(id, r)}
		}
	}
	return in
}

func (m *joints) resource(r *Record, containerID string, e keeper.Endpoint) network.EndpointResource {
	res := network.EndpointResource{Name: m.containers.NameOf(containerID), EndpointID: e.EndpointID}
	_ = res.MacAddress.UnmarshalText([]byte(e.MAC)) // of our own making
	for _, a := range r.own(e) {
		if a.Addr().Is4() {
			res.IPv4Address = a
		} else {
			res.IPv6Address = a
		}
	}
	return res
}

// users are the containers connected to a network, by id.
//
// Preconditions: m.mu is held.
func (m *joints) users(r *Record) map[string]keeper.Endpoint {
	all := map[string]keeper.Endpoint{}
	for id, a := range m.attached {
		for _, e := range a.state.Endpoints {
			if e.NetworkID == r.ID {
				all[id] = e
			}
		}
	}
	return all
}

// connected lists the networks that a live container is on.
//
// Preconditions: m.mu is held.
func (m *joints) connected(containerID string) []keeper.Endpoint {
	if a := m.attached[containerID]; a != nil {
		return a.state.Endpoints
	}
	return nil
}

func cloneEndpoints(e map[string]*network.EndpointSettings) map[string]*network.EndpointSettings {
	if e == nil {
		return map[string]*network.EndpointSettings{}
	}
	return maps.Clone(e)
}
