package network

import (
	"fmt"
	"net/netip"
	"strings"
	"unicode"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"

	"github.com/kelp-engine/kelp/engine/fault"
	"github.com/kelp-engine/kelp/engine/spec"
)

// Check refuses what a container that is being made asks of its networks and
// can never have; the warnings are about what it will be without. A network
// that is not there yet, or is a configuration network, is no error before the
// start.
func (m *Manager) Check(c *Container) (warnings []string, err error) {
	for _, text := range c.HostConfig.ExtraHosts {
		if _, _, err := splitExtraHost(text); err != nil {
			return nil, err
		}
	}
	if err := checkResolver(c.HostConfig.DNS, c.HostConfig.DNSSearch, c.HostConfig.DNSOptions); err != nil {
		return nil, err
	}
	mode := c.HostConfig.NetworkMode
	if mode.IsNone() || mode.IsHost() || mode.IsContainer() {
		return apart{m.joints}.check(c)
	}
	wishes, err := m.wishes(c)
	if errdefs.IsNotFound(err) || errdefs.IsPermissionDenied(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if mode.IsBridge() {
		for _, l := range c.HostConfig.Links {
			name, alias := spec.SplitLink(l)
			if !fitsHosts(alias) {
				return nil, fault.InvalidArgument("bad format for links: %q", l)
			}
			if m.containers.Lookup(name) == nil {
				return nil, fault.InvalidArgument("could not get container for %s: No such container: %s", name, name)
			}
		}
	}
	inside := len(wishes) > 0
	for _, w := range wishes {
		if err := checkEndpoint(w); err != nil {
			return nil, err
		}
		inside = inside && w.net.inside()
	}
	if _, err := ports(c, wishes); err != nil {
		return nil, err
	}
	if inside && publishes(c) {
		warnings = append(warnings, "Published ports are discarded while all of the container's networks are internal")
	}
	return warnings, nil
}

// apart are containers that are on no network of their own.
type apart struct{ *joints }

// check is Check for such a container.
func (m apart) check(c *Container) (warnings []string, err error) {
	mode := c.HostConfig.NetworkMode
	for ref, cfg := range c.Endpoints {
		switch {
		case m.meant(ref, mode):
		case mode.IsNone():
			return nil, fault.InvalidArgument("container cannot be connected to multiple networks with one of the networks in private (none) mode")
		default:
			return nil, fault.InvalidArgument("container sharing network namespace with another container or host cannot be connected to any other network")
		}
		switch {
		case cfg == nil:
		case len(cfg.MacAddress) > 0 && !mode.IsNone():
			return nil, fault.InvalidArgument("conflicting options: mac-address and the network mode")
		case wantedAddress(cfg, false).IsValid() || wantedAddress(cfg, true).IsValid():
			return nil, fault.InvalidArgument("user specified IP address is supported on user defined networks only")
		case len(cfg.Aliases) > 0:
			return nil, fault.InvalidArgument("network-scoped alias is supported only for containers in user defined networks")
		case len(cfg.DriverOpts) > 0:
			return nil, fault.InvalidArgument("conflicting options: driver options of an endpoint and the network mode")
		}
	}
	if publishes(c) {
		warnings = append(warnings, fmt.Sprintf("Published ports are discarded when using %s network mode", mode))
	}
	if h := c.HostConfig; mode.IsContainer() && len(h.DNSSearch)+len(h.DNSOptions) > 0 {
		warnings = append(warnings, "DNS settings are discarded when using another container's network: its own count")
	}
	return warnings, nil
}

// meant says whether ref is another name of a mode without a network of its
// own.
func (m apart) meant(ref string, mode container.NetworkMode) bool {
	if !mode.IsContainer() {
		return m.is(ref, string(mode))
	}
	other := m.containers.Lookup(container.NetworkMode(ref).ConnectedContainer())
	return other != nil && other.ID == mode.ConnectedContainer()
}

// checkResolver refuses what would be more, or less, than a word of a
// resolv.conf.
func checkResolver(servers []netip.Addr, search, options []string) error {
	for _, a := range servers {
		if !a.IsValid() || a.Zone() != "" && !isDevice(a.Zone()) {
			return fault.InvalidArgument("invalid IP address in dns: %q", a)
		}
	}
	for _, domain := range search {
		if strings.ContainsFunc(domain, endsWord) {
			return fault.InvalidArgument("invalid domain in dns-search: %q", domain)
		}
	}
	for _, option := range options {
		if strings.ContainsFunc(option, endsWord) {
			return fault.InvalidArgument("invalid option in dns-option: %q", option)
		}
	}
	return nil
}

// endsWord says whether a word of a file in /etc cannot contain r.
func endsWord(r rune) bool {
	return unicode.IsSpace(r) || unicode.IsControl(r) || r == '#' || r == ';'
}

func publishes(c *Container) bool {
	return len(c.HostConfig.PortBindings) > 0 || c.HostConfig.PublishAllPorts && len(c.Config.ExposedPorts) > 0
}
