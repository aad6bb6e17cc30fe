package apiserver

import (
	"maps"
	"slices"

	types "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
)

// The shapes of containers that older API versions had. All differences are
// in this file.

// containersFor is a list as the client's version has it.
func containersFor(r *request, rows []types.Summary) []types.Summary {
	for i := range rows {
		row := &rows[i]
		if !r.since("1.52") {
			row.Health = nil
		}
		if !r.since("1.46") {
			row.HostConfig.Annotations = nil
		}
	}
	return rows
}

// legacyNetworkSettings are NetworkSettings up to 1.51: the default network's
// endpoint stands at the top as well.
type legacyNetworkSettings struct {
	Bridge                 string
	HairpinMode            bool
	LinkLocalIPv6Address   string
	LinkLocalIPv6PrefixLen int
	SecondaryIPAddresses   []string
	SecondaryIPv6Addresses []string
	EndpointID             string
	Gateway                string
	GlobalIPv6Address      string
	GlobalIPv6PrefixLen    int
	IPAddress              string
	IPPrefixLen            int
	IPv6Gateway            string
	MacAddress             string
	*types.NetworkSettings
}

// legacyInspect is a container up to 1.51.
type legacyInspect struct {
	*types.InspectResponse
	Config          *legacyConfig
	NetworkSettings legacyNetworkSettings
}

// legacyConfig is a configuration up to 1.51.
type legacyConfig struct {
	*types.Config
	OnBuild    []string
	MacAddress string `json:",omitempty"` // up to 1.43
}

// inspectFor is a container as the client's version has it.
func inspectFor(r *request, i *types.InspectResponse) any {
	if r.since("1.52") || i.NetworkSettings == nil || i.Config == nil {
		return i
	}
	old := legacyInspect{
		InspectResponse: i,
		Config:          &legacyConfig{Config: i.Config, OnBuild: i.Config.OnBuild},
		NetworkSettings: legacyNetworkSettings{NetworkSettings: i.NetworkSettings},
	}
	if e := i.NetworkSettings.Networks[network.NetworkBridge]; e != nil {
		n := &old.NetworkSettings
		n.EndpointID, n.MacAddress = e.EndpointID, e.MacAddress.String()
		n.IPPrefixLen, n.GlobalIPv6PrefixLen = e.IPPrefixLen, e.GlobalIPv6PrefixLen
		n.IPAddress, n.Gateway = text(e.IPAddress), text(e.Gateway)
		n.GlobalIPv6Address, n.IPv6Gateway = text(e.GlobalIPv6Address), text(e.IPv6Gateway)
	}
	if !r.since("1.45") {
		old.NetworkSettings.NetworkSettings = withShortID(i.NetworkSettings, i.ID)
	}
	if !r.since("1.44") {
		old.Config.MacAddress = old.NetworkSettings.MacAddress
	}
	return old
}

// withShortID is n with a container's short id among its aliases in networks
// that have names, as up to 1.44.
func withShortID(n *types.NetworkSettings, id string) *types.NetworkSettings {
	old := *n
	old.Networks = maps.Clone(n.Networks)
	for name, e := range old.Networks {
		if e == nil || !types.NetworkMode(name).IsUserDefined() {
			continue
		}
		if short := id[:12]; !slices.Contains(e.Aliases, short) {
			with := *e
			with.Aliases = append(slices.Clone(e.Aliases), short)
			old.Networks[name] = &with
		}
	}
	return &old
}

// text is an address as JSON has it: "" for none.
func text(a interface{ MarshalText() ([]byte, error) }) string {
	b, err := a.MarshalText()
	if err != nil {
		return ""
	}
	return string(b)
}
