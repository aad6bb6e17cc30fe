package network

import (
	"fmt"

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
	mode := c.HostConfig.NetworkMode
	if mode.IsNone() || mode.IsHost() || mode.IsContainer() {
		for _, cfg := range c.Endpoints {
			if cfg != nil && len(cfg.MacAddress) > 0 && !mode.IsNone() {
				return nil, fault.InvalidArgument("conflicting options: mac-address and the network mode")
			}
		}
		if publishes(c) {
			warnings = append(warnings, fmt.Sprintf("Published ports are discarded when using %s network mode", mode))
		}
		return warnings, nil
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

func publishes(c *Container) bool {
	return len(c.HostConfig.PortBindings) > 0 || c.HostConfig.PublishAllPorts && len(c.Config.ExposedPorts) > 0
}
