package network

import (
	"bytes"
	"crypto/sha256"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/network"

	"github.com/kelp-engine/kelp/engine/fault"
	"github.com/kelp-engine/kelp/engine/keeper"
)

// The options of endpoints that kelp knows.
const (
	// optSysctls holds sysctls of the interface, separated by commas; IFNAME
	// stands for its name.
	optSysctls = "com.docker.network.endpoint.sysctls"
	optIfname  = "com.docker.network.endpoint.ifname"
)

// endpoint describes a container's endpoint and takes its addresses.
//
// Preconditions: m.mu is held.
func (m *joints) endpoint(c *Container, w wish, device string) (keeper.Endpoint, error) {
	if err := checkEndpoint(w); err != nil {
		return keeper.Endpoint{}, err
	}
	e := keeper.Endpoint{
		NetworkID: w.net.ID, EndpointID: newID(), Interface: device, Priority: w.cfg.GwPriority,
	}
	if !w.net.isDefault() {
		e.DNSNames, e.Links = dnsNames(c, w.cfg), linkNames(c, w.cfg)
	}
	var err error
	if e.Sysctls, err = endpointSysctls(w.cfg.DriverOpts[optSysctls]); err != nil {
		return e, err
	}
	subnets, err := w.subnets(c)
	if err != nil {
		return e, err
	}
	for _, s := range subnets {
		a, err := m.allocate(w.net, s, wantedAddress(w.cfg, s.Subnet.Addr().Is6()), c)
		if err != nil {
			m.free(w.net.ID, addrs(e.Addresses))
			return e, err
		}
		m.take(w.net.ID, c.ID, []netip.Addr{a.Addr()})
		e.Addresses = append(e.Addresses, a)
	}
	if w.net.Driver != driverIpvlan { // whose interfaces have their parent's
		e.MAC = macFor(w.cfg, e.Addresses).String()
	}
	if w.cfg.IPAMConfig != nil {
		for _, a := range w.cfg.IPAMConfig.LinkLocalIPs {
			e.Addresses = append(e.Addresses, netip.PrefixFrom(a, linkLocalBits(a)))
		}
	}
	return e, nil
}

// subnets are those of which the container gets addresses: not those of IPv6
// where a sysctl disables it.
func (w wish) subnets(c *Container) ([]network.IPAMConfig, error) {
	all := w.net.IPAM.Config
	if !w.disablesIPv6(c) {
		return all, nil
	}
	if a := wantedAddress(w.cfg, true); a.IsValid() {
		return nil, fault.InvalidArgument("container %s cannot have the address %s: a sysctl disables IPv6", c.Name, a)
	}
	ipv4 := slices.DeleteFunc(slices.Clone(all), func(s network.IPAMConfig) bool { return s.Subnet.Addr().Is6() })
	if len(ipv4) == 0 {
		return nil, fault.InvalidArgument("container %s cannot have an address of network %s: a sysctl disables IPv6", c.Name, w.net.Name)
	}
	return ipv4, nil
}

func (w wish) disablesIPv6(c *Container) bool {
	own, _ := endpointSysctls(w.cfg.DriverOpts[optSysctls]) // checked
	return own["net.ipv6.conf."+placeholder+".disable_ipv6"] == "1" ||
		c.HostConfig.Sysctls["net.ipv6.conf.all.disable_ipv6"] == "1" || c.HostConfig.Sysctls["net.ipv6.conf.default.disable_ipv6"] == "1"
}

func linkLocalBits(a netip.Addr) int {
	if a.Is6() {
		return 64
	}
	return 16
}

// checkEndpoint refuses what Docker refuses on the network.
func checkEndpoint(w wish) error {
	if w.net.isDefault() {
		if len(w.cfg.Aliases) > 0 {
			return fault.InvalidArgument("network-scoped alias is supported only for containers in user defined networks")
		}
		if wantedAddress(w.cfg, false).IsValid() || wantedAddress(w.cfg, true).IsValid() {
			return fault.InvalidArgument("user specified IP address is supported on user defined networks only")
		}
	}
	for _, ipv6 := range []bool{false, true} {
		want := wantedAddress(w.cfg, ipv6)
		within := func(c network.IPAMConfig) bool { return c.Subnet.Contains(want) }
		if want.IsValid() && !slices.ContainsFunc(w.net.IPAM.Config, within) {
			return notOn(w.net, want)
		}
	}
	if len(w.cfg.MacAddress) > 0 && w.net.Driver == driverIpvlan {
		return fault.InvalidArgument("the containers of the ipvlan network %s have one MAC address in common: none can be chosen", w.net.Name)
	}
	if mac := w.cfg.MacAddress; len(mac) != 0 && (len(mac) != 6 || mac[0]&1 != 0 || bytes.Equal(mac, make([]byte, 6))) {
		return fault.InvalidArgument("invalid MAC address %s: a container needs a unicast address of six bytes", w.cfg.MacAddress)
	}
	if w.cfg.IPAMConfig != nil {
		for _, a := range w.cfg.IPAMConfig.LinkLocalIPs {
			if !a.IsLinkLocalUnicast() {
				return fault.InvalidArgument("invalid link-local IP address %s", a)
			}
		}
	}
	for name, value := range w.cfg.DriverOpts {
		switch name {
		case optSysctls:
			if _, err := endpointSysctls(value); err != nil {
				return err
			}
		case optIfname:
			if !isDevice(value) {
				return fault.InvalidArgument("invalid interface name %q of option %s", value, name)
			}
		default:
			return fault.InvalidArgument("unknown driver option %s of the connection to network %s", name, w.net.Name)
		}
	}
	return nil
}

func notOn(r *Record, a netip.Addr) error {
	return fault.InvalidArgument("invalid config for network %s: invalid endpoint settings:\nno configured subnet or ip-range contain the IP address %s", r.Name, a)
}

func wantedAddress(cfg *network.EndpointSettings, ipv6 bool) netip.Addr {
	switch {
	case cfg.IPAMConfig == nil:
		return netip.Addr{}
	case ipv6:
		return cfg.IPAMConfig.IPv6Address
	}
	return cfg.IPAMConfig.IPv4Address.Unmap()
}

// macFor returns the address asked for, or one made from the container's
// first address: it then stays with the address, whoever has it next.
func macFor(cfg *network.EndpointSettings, addrs []netip.Prefix) net.HardwareAddr {
	if len(cfg.MacAddress) > 0 {
		return net.HardwareAddr(cfg.MacAddress)
	}
	for _, a := range addrs {
		if a.Addr().Is4() {
			ip := a.Addr().As4()
			return net.HardwareAddr{0x02, 0x42, ip[0], ip[1], ip[2], ip[3]}
		}
	}
	mac := net.HardwareAddr{0x02, 0x42, 0, 0, 0, 0}
	if len(addrs) > 0 {
		sum := sha256.Sum256(addrs[0].Addr().AsSlice())
		copy(mac[2:], sum[:])
	}
	return mac
}

// shortID is the part of an id that people use.
func shortID(id string) string { return id[:min(len(id), 12)] }

// dnsNames are what others on the network may call the container; the first
// one answers reverse look-ups.
func dnsNames(c *Container, cfg *network.EndpointSettings) []string {
	names := []string{c.Name}
	names = append(names, cfg.Aliases...)
	names = append(names, shortID(c.ID), c.Config.Hostname)
	var unique []string
	for _, n := range names {
		if n != "" && !slices.Contains(unique, n) {
			unique = append(unique, n)
		}
	}
	return unique
}

// placeholder stands for an interface's name in sysctls. Docker's client makes
// small letters of it.
const placeholder = "IFNAME"

// endpointSysctls reads "net.FAMILY.KIND.IFNAME.NAME=VALUE,…".
func endpointSysctls(text string) (map[string]string, error) {
	if text == "" {
		return nil, nil
	}
	all := map[string]string{}
	for part := range strings.SplitSeq(text, ",") {
		name, value, ok := strings.Cut(part, "=")
		fields := strings.Split(name, ".")
		if !ok || len(fields) < 5 || fields[0] != "net" || !strings.EqualFold(fields[3], placeholder) || slices.Contains(fields, "") || strings.Contains(name, "/") {
			return nil, fault.InvalidArgument("invalid sysctl %q: it must read net.FAMILY.KIND.%s.NAME=VALUE", part, placeholder)
		}
		fields[3] = placeholder
		all[strings.Join(fields, ".")] = value
	}
	return all, nil
}
