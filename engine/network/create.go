package network

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/network"

	"github.com/kelp-engine/kelp/engine/crashpoint"
	"github.com/kelp-engine/kelp/engine/fault"
)

var validName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]*$`)

// Create makes a network. The keeper makes it when the first container joins.
func (m *Manager) Create(_ context.Context, req network.CreateRequest) (id string, warnings []string, err error) {
	r, warnings, err := describe(req)
	if err != nil {
		return "", nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, other := range m.networks {
		if other.Name == r.Name {
			return "", nil, fault.Conflict("network with name %s already exists", r.Name)
		}
	}
	if err := m.chooseSubnets(r, req.IPAM); err != nil {
		return "", nil, err
	}
	if err := m.store.Save(r.ID, r); err != nil {
		return "", nil, err
	}
	crashpoint.Hit("network.create.saved")
	m.networks[r.ID] = r
	m.publish(r, events.ActionCreate, nil)
	return r.ID, warnings, nil
}

// describe checks all of a request but its subnets.
func describe(req network.CreateRequest) (*Record, []string, error) {
	if strings.TrimSpace(req.Name) == "" {
		return nil, nil, fault.InvalidArgument("network name cannot be empty")
	}
	if !validName.MatchString(req.Name) {
		return nil, nil, fault.InvalidArgument("invalid network name %q: only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed", req.Name)
	}
	if req.Driver == "" {
		req.Driver = driverBridge
	}
	if err := checkDriver(req); err != nil {
		return nil, nil, err
	}
	r := newRecord(req.Name, req.Driver)
	r.Internal, r.Attachable, r.Labels = req.Internal, req.Attachable, maps.Clone(req.Labels)
	r.EnableIPv4 = req.EnableIPv4 == nil || *req.EnableIPv4
	r.EnableIPv6 = req.EnableIPv6 != nil && *req.EnableIPv6
	if !r.EnableIPv4 && !r.EnableIPv6 {
		return nil, nil, fault.InvalidArgument("IPv4 or IPv6 must be enabled")
	}
	r.Options = maps.Clone(req.Options)
	warnings, err := checkOptions(req.Options)
	return r, warnings, err
}

func checkDriver(req network.CreateRequest) error {
	switch {
	case req.ConfigOnly || req.ConfigFrom != nil && req.ConfigFrom.Network != "":
		return fault.NotImplemented("configuration-only networks are not supported")
	case req.Ingress:
		return fault.Unavailable("this node is not a swarm manager")
	case req.Scope != "" && req.Scope != "local":
		return fault.InvalidArgument("invalid scope %q: this node is not a swarm manager", req.Scope)
	}
	switch req.Driver {
	case driverBridge:
		return nil
	case driverHost, driverNull:
		return fault.PermissionDenied("only one instance of %q network is allowed", req.Driver)
	case "overlay":
		return fault.Unavailable("This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to swarm and try again.")
	case "macvlan", "ipvlan":
		return fault.NotImplemented("networks with the driver %s are not supported", req.Driver).
			WithHint("an ordinary user may not put devices on the host's interfaces; use the driver bridge and publish ports")
	}
	return fault.NotFound("could not find plugin %s in v1 plugin registry: plugin not found", req.Driver)
}

// maxDeviceName is what the kernel allows, less the digits after a prefix.
const maxDeviceName = 15

// checkOptions refuses what kelp cannot do and warns of what it does not know.
func checkOptions(options map[string]string) (warnings []string, err error) {
	for name, value := range options {
		switch name {
		case optBridgeName:
			if value == "" || len(value) > maxDeviceName || strings.ContainsAny(value, "/ \t\n:") {
				return nil, fault.InvalidArgument("invalid bridge name %q", value)
			}
		case optIfacePrefix:
			if value == "" || len(value) > maxDeviceName-3 || strings.ContainsAny(value, "/ \t\n:") || value == "lo" {
				return nil, fault.InvalidArgument("invalid interface prefix %q", value)
			}
		case optICC, optDefaultBridge, optAnySource:
			if _, err := strconv.ParseBool(value); err != nil {
				return nil, fault.InvalidArgument("invalid value %q of option %s: it must be true or false", value, name)
			}
		case optMasquerade:
			if on, err := strconv.ParseBool(value); err != nil || !on {
				return nil, fault.InvalidArgument("option %s must be true: an ordinary user's containers speak with the world under the host's address", name)
			}
		case optHostBinding:
			if a, err := netip.ParseAddr(value); err != nil || !a.Is4() {
				return nil, fault.InvalidArgument("invalid IPv4 address %q of option %s", value, name)
			}
		case optMTU:
			if mtu, err := strconv.Atoi(value); err != nil || mtu < 68 || mtu > 65520 {
				return nil, fault.InvalidArgument("invalid MTU %q: it must be between 68 and 65520", value)
			}
		default:
			warnings = append(warnings, fmt.Sprintf("option %s is not known and has no effect", name))
		}
	}
	return warnings, nil
}

// chooseSubnets fills in the network's subnets and gateways.
//
// Preconditions: m.mu is held.
func (m *table) chooseSubnets(r *Record, ipam *network.IPAM) error {
	if ipam != nil {
		if ipam.Driver != "" && ipam.Driver != "default" {
			return fault.NotFound("could not find plugin %s in v1 plugin registry: plugin not found", ipam.Driver)
		}
		r.IPAM.Options = maps.Clone(ipam.Options)
		for _, c := range ipam.Config {
			if err := r.addSubnet(c); err != nil {
				return err
			}
		}
	}
	if r.EnableIPv4 && !r.hasFamily(false) {
		s, err := m.freeSubnet()
		if err != nil {
			return err
		}
		r.IPAM.Config = append(r.IPAM.Config, network.IPAMConfig{Subnet: s, Gateway: s.Addr().Next()})
	}
	if r.EnableIPv6 && !r.hasFamily(true) {
		s := uniqueLocal()
		r.IPAM.Config = append(r.IPAM.Config, network.IPAMConfig{Subnet: s, Gateway: s.Addr().Next()})
	}
	return nil
}

func (r *Record) hasFamily(ipv6 bool) bool {
	for _, c := range r.IPAM.Config {
		if c.Subnet.Addr().Is6() == ipv6 {
			return true
		}
	}
	return false
}

// addSubnet checks a subnet that the client names.
func (r *Record) addSubnet(c network.IPAMConfig) error {
	if !c.Subnet.IsValid() {
		return fault.InvalidArgument("invalid network config: a subnet is missing")
	}
	ipv6 := c.Subnet.Addr().Is6()
	switch {
	case c.Subnet != c.Subnet.Masked():
		return fault.InvalidArgument("invalid network config: invalid subnet %s: it should be %s", c.Subnet, c.Subnet.Masked())
	case ipv6 && !r.EnableIPv6, !ipv6 && !r.EnableIPv4:
		return nil // Docker leaves out what the network does not use
	case r.hasFamily(ipv6):
		return fault.InvalidArgument("invalid network config: a bridge network has one subnet of each family, not also %s", c.Subnet)
	case c.Subnet.Addr().IsLoopback() || c.Subnet.Addr().IsMulticast() || c.Subnet.Bits() == 0 || c.Subnet.Addr().BitLen()-c.Subnet.Bits() < 2:
		return fault.InvalidArgument("invalid network config: invalid subnet %s: there are no addresses for containers in it", c.Subnet)
	}
	for what, a := range named(c) {
		if !c.Subnet.Contains(a) {
			return fault.InvalidArgument("invalid network config: invalid %s %s: parent subnet %s doesn't contain it", what, a, c.Subnet)
		}
	}
	if c.IPRange.IsValid() && (c.IPRange.Bits() < c.Subnet.Bits() || !c.Subnet.Contains(c.IPRange.Addr())) {
		return fault.InvalidArgument("invalid network config: invalid ip-range %s: parent subnet %s doesn't contain it", c.IPRange, c.Subnet)
	}
	if !c.Gateway.IsValid() {
		c.Gateway = c.Subnet.Addr().Next()
	}
	r.IPAM.Config = append(r.IPAM.Config, c)
	return nil
}

// named are the addresses that the client set apart, by what they are.
func named(c network.IPAMConfig) map[string]netip.Addr {
	all := map[string]netip.Addr{}
	for name, a := range c.AuxAddress {
		all["auxiliary address "+name] = a
	}
	if c.Gateway.IsValid() {
		all["gateway"] = c.Gateway
	}
	return all
}
