package network

import (
	"context"
	"errors"
	"maps"
	"regexp"
	"strings"

	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/network"

	"github.com/kelp-engine/kelp/engine/crashpoint"
	"github.com/kelp-engine/kelp/engine/fault"
)

var validName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]*$`)

// Create makes a network. The keeper makes it when the first container joins.
func (m *Manager) Create(ctx context.Context, req network.CreateRequest) (id string, warnings []string, err error) {
	if req.Driver == "" {
		req.Driver = driverBridge
	}
	if req, err = m.configured(req); err != nil {
		return "", nil, err
	}
	if !req.ConfigOnly {
		req.Options = m.o.Defaults.withOptions(req.Driver, req.Options)
	}
	r, err := describe(req)
	if err != nil {
		return "", nil, err
	}
	if warnings, err = m.enter(r, req.IPAM); err != nil {
		return "", nil, err
	}
	if r.stacked() { // the kernel may not be able to
		if err := m.o.Bridges.EnsureNetwork(ctx, r.keeper()); err != nil {
			m.mu.Lock()
			delete(m.networks, r.ID)
			m.mu.Unlock()
			return "", nil, errors.Join(err, m.drop(ctx, r))
		}
	}
	m.publish(r, events.ActionCreate, nil)
	return r.ID, warnings, nil
}

// enter chooses the addresses of a network and saves it.
func (m *table) enter(r *Record, ipam *network.IPAM) (warnings []string, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, other := range m.networks {
		if other.Name == r.Name {
			return nil, fault.Conflict("network with name %s already exists", r.Name)
		}
	}
	if r.ConfigFrom != "" { // it may have been removed meanwhile
		if _, err := m.configuration(r.ConfigFrom); err != nil {
			return nil, err
		}
	}
	if warnings, err = m.chooseSubnets(r, ipam); err != nil {
		return nil, err
	}
	if err := m.store.Save(r.ID, r); err != nil {
		return nil, err
	}
	crashpoint.Hit("network.create.saved")
	m.networks[r.ID] = r
	return warnings, nil
}

// describe checks all of a request but its subnets.
func describe(req network.CreateRequest) (*Record, error) {
	switch req.Name {
	case network.NetworkBridge, network.NetworkHost, network.NetworkNone, network.NetworkDefault:
		return nil, fault.PermissionDenied("operation is not permitted on predefined %s network", req.Name)
	}
	if strings.TrimSpace(req.Name) == "" {
		return nil, fault.InvalidArgument("network name cannot be empty")
	}
	if !validName.MatchString(req.Name) {
		return nil, fault.InvalidArgument("invalid network name %q: only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed", req.Name)
	}
	if err := checkDriver(req); err != nil {
		return nil, err
	}
	r := newRecord(req.Name, req.Driver)
	if req.ConfigOnly { // the drivers of the networks made from it check the options
		r.ConfigOnly, r.Driver = true, driverNull
	} else if err := checkOptions(req.Driver, req.Options); err != nil {
		return nil, err
	}
	r.ConfigFrom = configFrom(req)
	r.Internal, r.Attachable, r.Labels, r.Options = req.Internal, req.Attachable, maps.Clone(req.Labels), maps.Clone(req.Options)
	r.EnableIPv4, r.EnableIPv6 = !r.off(optIPv4), r.on(optIPv6)
	if req.EnableIPv4 != nil {
		r.EnableIPv4 = *req.EnableIPv4
	}
	if req.EnableIPv6 != nil {
		r.EnableIPv6 = *req.EnableIPv6
	}
	if !r.EnableIPv4 && !r.EnableIPv6 {
		return nil, fault.InvalidArgument("IPv4 or IPv6 must be enabled")
	}
	if (r.isolated(false) || r.isolated(true)) && !r.Internal && !r.ConfigOnly {
		return nil, fault.InvalidArgument("gateway mode %q can only be used for an internal network", gatewayIsolated)
	}
	return r, nil
}

func checkDriver(req network.CreateRequest) error {
	switch {
	case req.Ingress:
		return fault.Unavailable("this node is not a swarm manager")
	case req.Scope != "" && req.Scope != "local":
		return fault.InvalidArgument("invalid scope %q: this node is not a swarm manager", req.Scope)
	}
	if driverOptions[req.Driver] != nil || req.ConfigOnly && req.Driver == driverNull {
		return nil
	}
	switch req.Driver {
	case driverHost, driverNull:
		return fault.PermissionDenied("only one instance of %q network is allowed", req.Driver)
	case "overlay":
		return fault.Unavailable("This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to swarm and try again.")
	}
	return fault.NotFound("could not find plugin %s in v1 plugin registry: plugin not found", req.Driver)
}
