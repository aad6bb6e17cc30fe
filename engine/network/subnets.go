package network

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/moby/moby/api/types/network"

	"github.com/kelp-engine/kelp/engine/fault"
	"github.com/kelp-engine/kelp/engine/keeper"
)

// chooseSubnets fills in the network's subnets and gateways. The warnings are
// about what the client asked for.
//
// Preconditions: m.mu is held.
func (m *table) chooseSubnets(r *Record, ipam *network.IPAM) (warnings []string, err error) {
	if ipam != nil {
		if warnings, err = r.takeIPAM(ipam); err != nil {
			return nil, err
		}
	}
	if r.ConfigOnly { // each network made from it has what is left open chosen anew
		return warnings, nil
	}
	for _, ipv6 := range []bool{false, true} {
		if wanted := r.EnableIPv4 && !ipv6 || r.EnableIPv6 && ipv6; !wanted || r.hasFamily(ipv6) {
			continue
		}
		s, err := m.freeSubnet(ipv6)
		if err != nil {
			return nil, err
		}
		r.IPAM.Config = append(r.IPAM.Config, network.IPAMConfig{Subnet: s})
	}
	for i := range r.IPAM.Config {
		c := &r.IPAM.Config[i]
		if !c.Gateway.IsValid() && !r.isolated(c.Subnet.Addr().Is6()) {
			c.Gateway = c.Subnet.Addr().Next()
		}
		if err := checkReserved(*c); err != nil {
			return nil, err
		}
	}
	return warnings, nil
}

// takeIPAM checks and takes what the client says of addresses.
func (r *Record) takeIPAM(ipam *network.IPAM) (warnings []string, err error) {
	if ipam.Driver != "" && ipam.Driver != "default" {
		return nil, fault.NotFound("could not find plugin %s in v1 plugin registry: plugin not found", ipam.Driver)
	}
	r.IPAM.Options = maps.Clone(ipam.Options)
	for _, name := range slices.Sorted(maps.Keys(ipam.Options)) {
		warnings = append(warnings, fmt.Sprintf("IPAM option %s has no effect", name))
	}
	routes := hostRoutes()
	for _, c := range ipam.Config {
		if err := r.addSubnet(c); err != nil {
			return nil, err
		}
		for _, host := range routes {
			if host.Overlaps(c.Subnet) {
				warnings = append(warnings, fmt.Sprintf("containers of this network cannot reach the host's network %s, which overlaps %s", host, c.Subnet))
			}
		}
	}
	return warnings, nil
}

func (r *Record) hasFamily(ipv6 bool) bool {
	return slices.ContainsFunc(r.IPAM.Config, func(c network.IPAMConfig) bool { return c.Subnet.Addr().Is6() == ipv6 })
}

// addSubnet checks a subnet that the client names.
func (r *Record) addSubnet(c network.IPAMConfig) error {
	if !c.Subnet.IsValid() {
		return fault.InvalidArgument("invalid network config:\ninvalid subnet: a subnet is missing")
	}
	ipv6 := c.Subnet.Addr().Is6()
	switch {
	case c.Subnet.Addr().Is4In6():
		return fault.InvalidArgument("invalid network config:\ninvalid subnet %s: it is an IPv4 subnet in an IPv6 address", c.Subnet)
	case c.Subnet != c.Subnet.Masked():
		return fault.InvalidArgument("invalid network config:\ninvalid subnet %s: it should be %s", c.Subnet, c.Subnet.Masked())
	case ipv6 && !r.EnableIPv6, !ipv6 && !r.EnableIPv4:
		return nil // Docker leaves out what the network does not use
	case r.hasFamily(ipv6):
		return fault.InvalidArgument("%s driver doesn't support multiple subnets: %s is one of its address family too many", r.Driver, c.Subnet)
	case c.Subnet.Addr().BitLen()-c.Subnet.Bits() < 2:
		return fault.InvalidArgument("invalid network config:\ninvalid subnet %s: there are no addresses for containers in it", c.Subnet)
	}
	if err := checkPlace(c.Subnet); err != nil {
		return fmt.Errorf("invalid network config:\n%w", err)
	}
	for _, name := range []string{"DefaultGatewayIPv4", "DefaultGatewayIPv6"} {
		if a := c.AuxAddress[name]; a.IsValid() { // Docker's default routes lead there
			return fault.InvalidArgument("auxiliary address %s=%s is not possible: there can be no router but the gateway on an ordinary user's network", name, a)
		}
	}
	for what, a := range named(c) {
		if !c.Subnet.Contains(a) {
			return fault.InvalidArgument("invalid network config:\ninvalid %s %s: parent subnet %s doesn't contain this address", what, a, c.Subnet)
		}
	}
	switch {
	case !c.IPRange.IsValid():
	case c.IPRange != c.IPRange.Masked():
		return fault.InvalidArgument("invalid network config:\ninvalid ip-range %s: it should be %s", c.IPRange, c.IPRange.Masked())
	case c.IPRange.Bits() < c.Subnet.Bits():
		return fault.InvalidArgument("invalid network config:\ninvalid ip-range %s: CIDR block is bigger than its parent subnet %s", c.IPRange, c.Subnet)
	case !c.Subnet.Contains(c.IPRange.Addr()):
		return fault.InvalidArgument("invalid network config:\ninvalid ip-range %s: parent subnet %s doesn't contain ip-range", c.IPRange, c.Subnet)
	}
	r.IPAM.Config = append(r.IPAM.Config, c)
	return nil
}

// notForContainers are addresses that mean something else in the namespace of
// each network.
var notForContainers = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),
	netip.MustParsePrefix("127.0.0.0/8"),
	netip.MustParsePrefix("224.0.0.0/4"),
	netip.PrefixFrom(keeper.HostGateway4, 24).Masked(), // with the way out
	netip.MustParsePrefix("::1/128"),
	netip.MustParsePrefix("ff00::/8"),
	netip.PrefixFrom(keeper.HostGateway6, 128),
}

// checkPlace refuses a subnet of addresses that containers cannot have.
func checkPlace(subnet netip.Prefix) error {
	for _, p := range notForContainers {
		if p.Overlaps(subnet) {
			return fault.InvalidArgument("invalid subnet %s: containers cannot have addresses of %s", subnet, p)
		}
	}
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

// checkReserved refuses addresses that are set apart twice.
func checkReserved(c network.IPAMConfig) error {
	if reservedBySubnet(c.Subnet, c.Gateway) {
		return fault.PermissionDenied("failed to allocate gateway (%s): Address already in use", c.Gateway)
	}
	seen := map[netip.Addr]bool{c.Gateway: true}
	for _, name := range slices.Sorted(maps.Keys(c.AuxAddress)) {
		a := c.AuxAddress[name]
		if seen[a] || reservedBySubnet(c.Subnet, a) {
			return fault.PermissionDenied("failed to allocate secondary ip address (%s:%s): Address already in use", name, a)
		}
		seen[a] = true
	}
	return nil
}

// reservedBySubnet says whether an address is the subnet's own, or its
// broadcast address.
func reservedBySubnet(s netip.Prefix, a netip.Addr) bool {
	return a == s.Masked().Addr() || a.Is4() && a == last(s)
}
