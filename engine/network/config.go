package network

import (
	"slices"

	"github.com/moby/moby/api/types/network"

	"github.com/kelp-engine/kelp/engine/fault"
)

// configured checks what a request has to do with configuration networks, and
// returns it with the settings of the one that it names.
func (m *table) configured(req network.CreateRequest) (network.CreateRequest, error) {
	from := configFrom(req)
	switch {
	case req.ConfigOnly && (req.Ingress || req.Internal || req.Attachable || req.Scope != ""):
		return req, fault.PermissionDenied("configuration network can only contain network specific fields. " +
			"Network operator fields like [ ingress | internal | attachable | scope ] are not supported.").
			WithHint("give them to the networks that are made from it")
	case req.ConfigOnly && from != "":
		return req, fault.PermissionDenied("a configuration network cannot depend on another configuration network")
	case from == "":
		return req, nil
	case configuresItself(req):
		return req, fault.PermissionDenied("user specified configurations are not supported if the network depends on a configuration network")
	case len(req.Options) > 0:
		return req, fault.PermissionDenied("network driver options are not supported if the network depends on a configuration network")
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	c, err := m.configuration(from)
	if err != nil {
		return req, err
	}
	req.EnableIPv4, req.EnableIPv6 = &c.EnableIPv4, &c.EnableIPv6
	req.IPAM, req.Options, req.Labels = &c.IPAM, c.Options, c.Labels
	return req, nil
}

// configFrom is the name of the configuration network of a request, or "".
func configFrom(req network.CreateRequest) string {
	if req.ConfigFrom == nil {
		return ""
	}
	return req.ConfigFrom.Network
}

// configuresItself says whether a request has labels, or says of addresses
// what is not so anyway.
func configuresItself(req network.CreateRequest) bool {
	return len(req.Labels) > 0 ||
		req.EnableIPv4 != nil && !*req.EnableIPv4 || req.EnableIPv6 != nil && *req.EnableIPv6 ||
		req.IPAM != nil && (req.IPAM.Driver != "" && req.IPAM.Driver != "default" || len(req.IPAM.Options) > 0 || len(req.IPAM.Config) > 0)
}

// configuration returns the configuration network with a name.
//
// Preconditions: m.mu is held.
func (m *table) configuration(name string) (*Record, error) {
	for _, r := range m.networks {
		if r.ConfigOnly && r.Name == name {
			return r, nil
		}
	}
	return nil, fault.NotFound("configuration network %q does not exist", name)
}

// checkDependents refuses the removal of a configuration network from which
// others were made.
//
// Preconditions: m.mu is held.
func (m *table) checkDependents(c *Record) error {
	all := m.all()
	i := slices.IndexFunc(all, func(r *Record) bool { return r.ConfigFrom == c.Name })
	if !c.ConfigOnly || i < 0 {
		return nil
	}
	return fault.PermissionDenied("error while removing network: configuration network %q is in use", c.Name).
		WithHint("remove the networks made from it first, such as %s", all[i].Name)
}

// checkUsable refuses to connect containers to a configuration network.
func (r *Record) checkUsable() error {
	if !r.ConfigOnly {
		return nil
	}
	return fault.PermissionDenied("cannot create endpoint on configuration-only network %s", r.Name).
		WithHint("make a network from it with 'docker network create --config-from %s NAME'", r.Name)
}
