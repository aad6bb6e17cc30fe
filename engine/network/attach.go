package network

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/network"

	"github.com/kelp-engine/kelp/engine/crashpoint"
	"github.com/kelp-engine/kelp/engine/fault"
	"github.com/kelp-engine/kelp/engine/keeper"
)

// Container is what networks need to know of one.
type Container struct {
	ID, Name string
	Running  bool
	// Config and HostConfig as the client gave them; they are only read.
	Config     *container.Config
	HostConfig *container.HostConfig
	// Endpoints are the networks that the container is to be on, by name or
	// id. Without any it is on the one of its network mode.
	Endpoints map[string]*network.EndpointSettings
	// Addresses, by network id, and HostPorts are what the container had last:
	// it gets them again where it can.
	Addresses map[string][]netip.Addr
	HostPorts []keeper.Port
}

// Attachment is how a started container is connected.
type Attachment struct {
	// Sandbox is the id of the keeper's sandbox to start in; "" where the
	// container has no namespace of its own to be prepared.
	Sandbox string
	// Hosts, Hostname and ResolvConf are contents of the files in /etc.
	Hosts, Hostname, ResolvConf []byte
	// Env are variables about the containers that it is linked to.
	Env []string
	// Addresses and HostPorts are those of Container from now on.
	Addresses map[string][]netip.Addr
	HostPorts []keeper.Port
}

// wish is an endpoint that a container asks for.
type wish struct {
	net *Record
	cfg *network.EndpointSettings // never nil
}

// Attach connects a container that is about to start. When it fails nothing
// is left.
func (m *Manager) Attach(ctx context.Context, c *Container) (*Attachment, error) {
	c = m.o.Defaults.resolve(c)
	mode := c.HostConfig.NetworkMode
	if mode.IsNone() || mode.IsHost() || mode.IsContainer() {
		a, err := m.withoutNetwork(c)
		if err == nil {
			outside{m.table}.enter(c)
		}
		return a, err
	}
	wishes, err := m.wishes(c)
	if err != nil {
		return nil, err
	}
	links, err := m.legacyLinks(c)
	if err != nil {
		return nil, err
	}
	box, err := m.lease(c, wishes)
	if err != nil {
		return nil, err
	}
	state, err := m.makeSandbox(ctx, c, wishes, box)
	if err != nil {
		m.release(c.ID, box.Endpoints)
		return nil, err
	}
	crashpoint.Hit("network.attach.made")
	m.mu.Lock()
	m.attached[c.ID] = &attachment{state: state}
	m.mu.Unlock()
	for _, w := range wishes {
		m.publish(w.net, events.ActionConnect, map[string]string{"container": c.ID})
	}
	a, err := etc{m.joints}.files(c, state.Endpoints, links.hosts)
	if err != nil {
		return nil, errors.Join(err, m.Detach(ctx, c.ID))
	}
	etc{m.joints}.relink(c)
	a.Sandbox, a.Env, a.Addresses, a.HostPorts = c.ID, links.env, addressesOf(state.Endpoints), state.Bound
	return a, nil
}

// joined is the attachment of a container that shares another's network: it
// has the other's files.
func (m *Manager) joined(c *Container) (*Attachment, error) {
	other := m.containers.Lookup(c.HostConfig.NetworkMode.ConnectedContainer())
	if other == nil {
		return &Attachment{}, nil // joining its namespace says so
	}
	other = m.o.Defaults.resolve(other)
	mode := other.HostConfig.NetworkMode
	if mode.IsNone() || mode.IsHost() {
		return m.withoutNetwork(other)
	}
	m.mu.Lock()
	endpoints := m.connected(other.ID)
	m.mu.Unlock()
	links, err := m.legacyLinks(other)
	if err != nil {
		links = linked{} // what was linked has ended meanwhile
	}
	return etc{m.joints}.files(other, endpoints, links.hosts)
}

// wishes resolves the networks that a container asks for.
func (m *joints) wishes(c *Container) ([]wish, error) {
	asked := c.Endpoints
	if len(asked) == 0 {
		asked = map[string]*network.EndpointSettings{string(c.HostConfig.NetworkMode): nil}
	}
	var all []wish
	for ref, cfg := range asked {
		r, err := m.find(ref)
		if errdefs.IsNotFound(err) {
			return nil, fault.NotFound("network %s not found", ref).
				WithHint("make it with 'docker network create %s', or take the container off it with 'docker network disconnect -f %s %s'", ref, ref, c.Name)
		}
		if err != nil {
			return nil, err
		}
		if err := r.checkUsable(); err != nil {
			return nil, err
		}
		if r.Driver == driverNull {
			continue // taken off its last network
		}
		if r.Driver == driverHost {
			return nil, fault.InvalidArgument("container cannot be connected to the network %s and to others", r.Name)
		}
		if slices.ContainsFunc(all, func(w wish) bool { return w.net == r }) {
			return nil, fault.InvalidArgument("container is connected to the network %s twice", r.Name)
		}
		if cfg == nil {
			cfg = &network.EndpointSettings{}
		}
		all = append(all, wish{r, cfg})
	}
	// Interfaces are numbered in the order in which they lead outside.
	slices.SortFunc(all, func(a, b wish) int {
		return cmp.Or(cmp.Compare(b.cfg.GwPriority, a.cfg.GwPriority), cmp.Compare(a.net.Name, b.net.Name))
	})
	return all, nil
}

// lease describes the container's sandbox and takes the addresses in it.
func (m *joints) lease(c *Container, wishes []wish) (*keeper.Sandbox, error) {
	s := &keeper.Sandbox{ID: c.ID, HostGateway: asksForHost(c)}
	s.DNS.Servers = c.HostConfig.DNS
	var err error
	if s.Ports, err = ports(c, wishes); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.attached[c.ID] != nil {
		return nil, fault.Conflict("container %s is connected already", c.Name)
	}
	for _, w := range wishes {
		if m.networks[w.net.ID] != w.net {
			m.rest(c.ID, s.Endpoints)
			return nil, fault.NotFound("network %s not found", w.net.Name)
		}
		e, err := m.beside(c, w, s.Endpoints)
		if err != nil {
			m.rest(c.ID, s.Endpoints)
			return nil, err
		}
		s.Endpoints = append(s.Endpoints, e)
	}
	return s, nil
}

func ifacePrefix(r *Record) string {
	if p := r.Options[optIfacePrefix]; p != "" {
		return p
	}
	return "eth"
}

// release takes addresses from a container that did not become live.
func (m *table) release(containerID string, endpoints []keeper.Endpoint) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.rest(containerID, endpoints)
}

// makeSandbox has the keeper make the sandbox, and the networks that are not
// there yet. What an earlier engine left of the container is replaced.
func (m *table) makeSandbox(ctx context.Context, c *Container, wishes []wish, s *keeper.Sandbox) (keeper.SandboxState, error) {
	state, err := m.o.Sandboxes.CreateSandbox(ctx, *s)
	if errors.Is(err, errdefs.ErrConflict) || errors.Is(err, errdefs.ErrNotFound) {
		if state, err = m.makeAll(ctx, wishes, s); err == nil {
			return state, nil
		}
	}
	if err == nil {
		return state, nil
	}
	if ctx.Err() != nil { // the keeper may have made it all the same
		err = errors.Join(err, m.o.Sandboxes.ReleaseSandbox(context.WithoutCancel(ctx), c.ID))
	}
	if len(s.Ports) > 0 && len(s.Endpoints) > 0 {
		err = fmt.Errorf("driver failed programming external connectivity on endpoint %s (%s): %w", c.Name, s.Endpoints[0].EndpointID, err)
	}
	return state, err
}

// makeAll makes a sandbox where the keeper lacks something, or has too much.
func (m *table) makeAll(ctx context.Context, wishes []wish, s *keeper.Sandbox) (keeper.SandboxState, error) {
	if err := m.o.Sandboxes.ReleaseSandbox(ctx, s.ID); err != nil {
		return keeper.SandboxState{}, err
	}
	for _, w := range wishes {
		if err := m.o.Bridges.EnsureNetwork(ctx, w.net.keeper()); err != nil {
			return keeper.SandboxState{}, err
		}
	}
	return m.o.Sandboxes.CreateSandbox(ctx, *s)
}

// Detach disconnects a container that has ended. Not being connected is no
// error.
func (m *Manager) Detach(ctx context.Context, containerID string) error {
	m.mu.Lock()
	a := m.attached[containerID]
	m.mu.Unlock()
	if a == nil { // Recover has found all that there are
		outside{m.table}.leave(containerID)
		return nil
	}
	if err := m.o.Sandboxes.ReleaseSandbox(ctx, containerID); err != nil {
		return err
	}
	m.mu.Lock()
	if m.attached[containerID] != a {
		m.mu.Unlock()
		return nil
	}
	delete(m.attached, containerID)
	m.rest(containerID, a.state.Endpoints)
	var left []*Record
	for _, e := range a.state.Endpoints {
		if r := m.networks[e.NetworkID]; r != nil {
			left = append(left, r)
		}
	}
	m.mu.Unlock()
	for _, r := range left {
		m.publish(r, events.ActionDisconnect, map[string]string{"container": containerID})
	}
	return nil
}

// withoutNetwork is the attachment of a container that has no network of its
// own: none, the host's, or another container's.
func (m *Manager) withoutNetwork(c *Container) (*Attachment, error) {
	a := &Attachment{Hostname: hostnameFile(c)}
	var err error
	switch mode := c.HostConfig.NetworkMode; {
	case mode.IsHost():
		if a.Hosts, err = hostsOfHost(c); err != nil {
			return nil, err
		}
	case mode.IsContainer():
		return m.joined(c)
	default:
		a.Hosts = hostsFile(c, nil, nil)
	}
	a.ResolvConf, err = resolvOfHost(c)
	return a, err
}
