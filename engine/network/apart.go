package network

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"

	"github.com/kelp-engine/kelp/engine/fault"
)

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
		case cfg.IPAMConfig != nil && (wantedAddress(cfg, false).IsValid() || wantedAddress(cfg, true).IsValid() || len(cfg.IPAMConfig.LinkLocalIPs) > 0):
			return nil, fault.InvalidArgument("user specified IP address is supported on user defined networks only")
		case len(cfg.Aliases) > 0:
			return nil, fault.InvalidArgument("network-scoped alias is supported only for containers in user defined networks")
		case len(cfg.DriverOpts) > 0:
			return nil, fault.InvalidArgument("conflicting options: driver options of an endpoint and the network mode")
		}
	}
	for _, cfg := range c.Endpoints {
		if cfg != nil && len(cfg.MacAddress) > 0 {
			warnings = append(warnings, fmt.Sprintf("The MAC address is discarded when using %s network mode", mode))
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

// outside are the running containers that have no network, or the host's.
type outside struct{ *table }

// enter counts a container among those of the network that its mode names.
func (m outside) enter(c *Container) {
	if r := m.count(c); r != nil {
		m.publish(r, events.ActionConnect, map[string]string{"container": c.ID})
	}
}

// count is enter for a container that another engine has started. The network
// is nil where a container has another's.
func (m outside) count(c *Container) *Record {
	mode := c.HostConfig.NetworkMode
	if !mode.IsNone() && !mode.IsHost() {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	r, err := m.findLocked(string(mode))
	if err != nil {
		return nil
	}
	m.outside[c.ID] = r
	return r
}

// leave undoes enter. Not having entered is no error.
func (m outside) leave(containerID string) {
	m.mu.Lock()
	r := m.outside[containerID]
	delete(m.outside, containerID)
	m.mu.Unlock()
	if r != nil {
		m.publish(r, events.ActionDisconnect, map[string]string{"container": containerID})
	}
}

// outsideID stands for the endpoint that such a container does not have.
func outsideID(containerID string, r *Record) string {
	sum := sha256.Sum256([]byte(containerID + r.ID))
	return hex.EncodeToString(sum[:])
}
