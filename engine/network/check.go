package network

import (
	"net/netip"
	"strings"
	"unicode"

	"github.com/containerd/errdefs"

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
		if _, err := w.subnets(c); err != nil {
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
