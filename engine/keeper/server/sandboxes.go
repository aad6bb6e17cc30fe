package server

import (
	"context"
	"errors"
	"net"
	"slices"

	"github.com/kelp-engine/kelp/engine/crashpoint"
	"github.com/kelp-engine/kelp/engine/fault"
	"github.com/kelp-engine/kelp/engine/keeper"
	"github.com/kelp-engine/kelp/netstack"
	"github.com/kelp-engine/kelp/netstack/forward"
)

func (n *networks) createSandbox(ctx context.Context, c *call) (any, error) {
	var cfg keeper.Sandbox
	if err := c.decode(&cfg); err != nil {
		return nil, err
	}
	if cfg.ID == "" {
		return nil, fault.InvalidArgument("a sandbox needs an id")
	}
	b := &sandbox{turn: newTurn(), state: keeper.SandboxState{Sandbox: cfg}}
	if err := b.turn.take(ctx); err != nil {
		return nil, err
	}
	defer b.turn.give()
	n.mu.Lock()
	if n.boxes[cfg.ID] != nil {
		n.mu.Unlock()
		return nil, fault.Conflict("container %s has a network sandbox already", cfg.ID)
	}
	n.boxes[cfg.ID] = b
	n.mu.Unlock()

	box, err := n.openSandbox(cfg, &b.state)
	crashpoint.Hit("keeper.sandbox.opened")
	n.mu.Lock()
	defer n.mu.Unlock()
	if err != nil {
		delete(n.boxes, cfg.ID)
		return nil, err
	}
	b.box = box
	return b.state, nil
}

// openSandbox makes a sandbox whole, and notes in state how it became.
func (n *networks) openSandbox(cfg keeper.Sandbox, state *keeper.SandboxState) (_ *netstack.Sandbox, err error) {
	// Nothing is made before all networks are known to be there: the engine
	// opens those that are not and asks again, for devices of the same names.
	nets, err := n.useAll(cfg.Endpoints)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			n.doneAll(cfg.Endpoints)
		}
	}()
	box, err := netstack.OpenSandbox(netstack.SandboxConfig{
		Resolver:      !cfg.DNS.Off,
		Servers:       cfg.DNS.Servers,
		HostResolvers: n.resolvers,
		ReachesHost:   cfg.HostGateway,
		Log:           n.log.With("container", cfg.ID),
	})
	if err != nil {
		return nil, fault.Internal("%w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, box.Close())
		}
	}()
	for i, e := range cfg.Endpoints {
		if err := join(box, nets[i], e); err != nil {
			return nil, err
		}
	}
	ports := make([]netstack.Port, len(cfg.Ports))
	for i, p := range cfg.Ports {
		ports[i] = netstack.Port(p)
	}
	bound, err := box.Publish(ports)
	if err != nil {
		return nil, publishError(err)
	}
	for _, p := range bound {
		state.Bound = append(state.Bound, keeper.Port(p))
	}
	state.Path = box.Path()
	return box, nil
}

// publishError gives a failed publication its class and hint.
func publishError(err error) error {
	bind, ok := errors.AsType[*forward.BindError](err)
	switch {
	case ok && errors.Is(err, forward.ErrPortForbidden):
		return fault.PermissionDenied("%w", err).WithHint("as root: sysctl -w net.ipv4.ip_unprivileged_port_start=%d", bind.Host.Port())
	case ok:
		return fault.Internal("%w", err)
	}
	return fault.InvalidArgument("%w", err)
}

// useAll keeps the networks of all endpoints in use, or none.
func (n *networks) useAll(endpoints []keeper.Endpoint) ([]*netstack.Network, error) {
	var nets []*netstack.Network
	for i, e := range endpoints {
		w, err := n.use(e.NetworkID)
		if err != nil {
			n.doneAll(endpoints[:i])
			return nil, err
		}
		nets = append(nets, w)
	}
	return nets, nil
}

func (n *networks) doneAll(endpoints []keeper.Endpoint) {
	for _, e := range endpoints {
		n.done(e.NetworkID)
	}
}

// join connects a sandbox to a network.
func join(box *netstack.Sandbox, w *netstack.Network, e keeper.Endpoint) error {
	var mac net.HardwareAddr // an ipvlan interface has its parent's
	if e.MAC != "" {
		var err error
		if mac, err = net.ParseMAC(e.MAC); err != nil {
			return fault.InvalidArgument("invalid MAC address %q: %w", e.MAC, err)
		}
	}
	err := box.Connect(w, netstack.Endpoint{
		ID: e.EndpointID, Device: e.Interface, MAC: mac, Addresses: e.Addresses,
		Names: e.DNSNames, Links: e.Links, Priority: e.Priority, Sysctls: e.Sysctls,
	})
	if err != nil {
		return fault.Internal("%w", err)
	}
	return nil
}

func (n *networks) releaseSandbox(ctx context.Context, c *call) (any, error) {
	var id struct{ ID string }
	if err := c.decode(&id); err != nil {
		return nil, err
	}
	b, err := n.takeSandbox(ctx, id.ID)
	if b == nil {
		return nil, err
	}
	defer b.turn.give()
	n.mu.Lock()
	delete(n.boxes, id.ID)
	n.mu.Unlock()
	err = b.box.Close()
	n.doneAll(b.state.Endpoints)
	return nil, err
}

// takeSandbox finds an open sandbox and takes its turn; nil when it is not
// there.
func (n *networks) takeSandbox(ctx context.Context, id string) (*sandbox, error) {
	n.mu.Lock()
	b := n.boxes[id]
	n.mu.Unlock()
	if b == nil {
		return nil, nil
	}
	if err := b.turn.take(ctx); err != nil {
		return nil, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.boxes[id] != b { // it failed to open, or was released
		b.turn.give()
		return nil, nil
	}
	return b, nil
}

func (n *networks) listSandboxes(context.Context, *call) (any, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	all := []keeper.SandboxState{}
	for _, b := range n.boxes {
		if b.box != nil {
			all = append(all, b.state)
		}
	}
	return all, nil
}

// takeEndpoints reads a request about an endpoint and takes the turn of its
// sandbox; nil when that is not there.
func (n *networks) takeEndpoints(ctx context.Context, c *call) (r keeper.EndpointRequest, b *sandbox, err error) {
	if err = c.decode(&r); err == nil {
		b, err = n.takeSandbox(ctx, r.SandboxID)
	}
	return r, b, err
}

func (n *networks) connectEndpoint(ctx context.Context, c *call) (any, error) {
	r, b, err := n.takeEndpoints(ctx, c)
	if err != nil {
		return nil, err
	}
	if b == nil {
		return nil, fault.NotFound("container %s has no network sandbox", r.SandboxID)
	}
	defer b.turn.give()
	w, err := n.use(r.Endpoint.NetworkID)
	if err != nil {
		return nil, err
	}
	if err := join(b.box, w, r.Endpoint); err != nil {
		n.done(r.Endpoint.NetworkID)
		return nil, err
	}
	crashpoint.Hit("keeper.endpoint.connected")
	n.mu.Lock()
	defer n.mu.Unlock()
	b.state.Endpoints = append(slices.Clone(b.state.Endpoints), r.Endpoint)
	return nil, nil
}

func (n *networks) disconnectEndpoint(ctx context.Context, c *call) (any, error) {
	r, b, err := n.takeEndpoints(ctx, c)
	if b == nil {
		return nil, err
	}
	defer b.turn.give()
	i := b.endpoint(r.Endpoint.EndpointID)
	if i < 0 {
		return nil, nil
	}
	if err := b.box.Disconnect(r.Endpoint.EndpointID); err != nil {
		return nil, fault.Internal("%w", err)
	}
	n.done(b.state.Endpoints[i].NetworkID)
	n.mu.Lock()
	defer n.mu.Unlock()
	b.state.Endpoints = slices.Delete(slices.Clone(b.state.Endpoints), i, i+1)
	return nil, nil
}

func (n *networks) renameEndpoint(ctx context.Context, c *call) (any, error) {
	r, b, err := n.takeEndpoints(ctx, c)
	if err != nil {
		return nil, err
	}
	if b == nil {
		return nil, fault.NotFound("container %s has no network sandbox", r.SandboxID)
	}
	defer b.turn.give()
	i := b.endpoint(r.Endpoint.EndpointID)
	if i < 0 {
		return nil, fault.NotFound("container %s has no endpoint %s", r.SandboxID, r.Endpoint.EndpointID)
	}
	b.box.Rename(r.Endpoint.EndpointID, r.Endpoint.DNSNames)
	n.mu.Lock()
	defer n.mu.Unlock()
	b.state.Endpoints = slices.Clone(b.state.Endpoints)
	b.state.Endpoints[i].DNSNames = r.Endpoint.DNSNames
	return nil, nil
}

func (b *sandbox) endpoint(id string) int {
	return slices.IndexFunc(b.state.Endpoints, func(e keeper.Endpoint) bool { return e.EndpointID == id })
}
