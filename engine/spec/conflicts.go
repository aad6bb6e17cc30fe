package spec

import (
	"github.com/moby/moby/api/types/container"

	"github.com/kelp-engine/kelp/engine/fault"
)

// CheckRequest refuses options of a client's request that exclude each other.
// c is the client's own, not yet merged with the image's.
func CheckRequest(c *container.Config, hc *container.HostConfig) error {
	mode := hc.NetworkMode
	if mode.IsContainer() && mode.ConnectedContainer() == "" {
		return fault.InvalidArgument("invalid network mode: invalid container format container:<name|id>")
	}
	for _, conflict := range []struct {
		is   bool
		text string
	}{
		{mode.IsContainer() && c.Hostname != "", "hostname and the network mode"},
		{mode.IsContainer() && len(hc.Links) > 0, "container type network can't be used with links. This would result in undefined behavior"},
		{mode.IsContainer() && len(hc.DNS) > 0, "dns and the network mode"},
		{mode.IsContainer() && len(hc.ExtraHosts) > 0, "custom host-to-IP mapping and the network mode"},
		{mode.IsContainer() && (len(hc.PortBindings) > 0 || hc.PublishAllPorts), "port publishing and the container type network mode"},
		{mode.IsContainer() && len(c.ExposedPorts) > 0, "port exposing and the container type network mode"},
		{mode.IsHost() && len(hc.Links) > 0, "host type networking can't be used with links. This would result in undefined behavior"},
		{hc.UTSMode.IsHost() && c.Hostname != "", "hostname and the UTS mode"},
	} {
		if conflict.is {
			return fault.InvalidArgument("conflicting options: %s", conflict.text)
		}
	}
	return nil
}
