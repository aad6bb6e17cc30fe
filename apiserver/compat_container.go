package apiserver

import (
	"maps"
	"slices"

	types "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
)

// The shapes of containers that older API versions had. All differences are
// in this file.

// legacySummary is a row of a list up to 1.51.
type legacySummary struct {
	types.Summary
	Ports []legacyPort
}

// legacyPort is a port up to 1.51: one that is not published has no address,
// not an empty one.
type legacyPort struct {
	IP          string `json:",omitempty"`
	PrivatePort uint16
	PublicPort  uint16 `json:",omitempty"`
	Type        string
}

// containersFor is a list as the client's version has it.
func containersFor(r *request, rows []types.Summary) any {
	if r.since("1.52") {
		return rows
	}
	old := make([]legacySummary, len(rows))
	for i, row := range rows {
		row.Health = nil
		if !r.since("1.46") {
			row.HostConfig.Annotations = nil
		}
		old[i] = legacySummary{row, make([]legacyPort, len(row.Ports))}
		for j, p := range row.Ports {
			old[i].Ports[j] = legacyPort{text(p.IP), p.PrivatePort, p.PublicPort, p.Type}
		}
	}
	return old
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
		old.NetworkSettings.NetworkSettings = withAliases(i.NetworkSettings, i.ID[:12], i.Config.Hostname)
	}
	if !r.since("1.44") {
		old.Config.MacAddress = old.NetworkSettings.MacAddress
	}
	return old
}

// withAliases is n with more aliases in networks that have names: up to 1.44 a
// container's short id and hostname were among them.
func withAliases(n *types.NetworkSettings, more ...string) *types.NetworkSettings {
	old := *n
	old.Networks = maps.Clone(n.Networks)
	for name, e := range old.Networks {
		if e == nil || !types.NetworkMode(name).IsUserDefined() {
			continue
		}
		with := *e
		with.Aliases = slices.Clone(e.Aliases)
		for _, alias := range more {
			if alias != "" && !slices.Contains(with.Aliases, alias) {
				with.Aliases = append(with.Aliases, alias)
			}
		}
		old.Networks[name] = &with
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
