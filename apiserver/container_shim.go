package apiserver

import (
	types "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
)

// The shapes of containers that older API versions had. All differences are
// in this file.

// listShim is a list as the client's version has it.
func listShim(r *request, rows []types.Summary) any {
	if r.since("1.52") {
		return rows
	}
	for i := range rows { // the member came with 1.52
		rows[i].Health = nil
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
	NetworkSettings legacyNetworkSettings
}

// inspectShim is a container as the client's version has it.
func inspectShim(r *request, i *types.InspectResponse) any {
	if r.since("1.52") || i.NetworkSettings == nil {
		return i
	}
	old := legacyInspect{InspectResponse: i, NetworkSettings: legacyNetworkSettings{NetworkSettings: i.NetworkSettings}}
	if e := i.NetworkSettings.Networks[network.NetworkBridge]; e != nil {
		n := &old.NetworkSettings
		n.EndpointID, n.MacAddress = e.EndpointID, e.MacAddress.String()
		n.IPPrefixLen, n.GlobalIPv6PrefixLen = e.IPPrefixLen, e.GlobalIPv6PrefixLen
		n.IPAddress, n.Gateway = text(e.IPAddress), text(e.Gateway)
		n.GlobalIPv6Address, n.IPv6Gateway = text(e.GlobalIPv6Address), text(e.IPv6Gateway)
	}
	if r.since("1.44") {
		return old
	}
	return withMacAddress{legacyInspect: old, Config: legacyConfig{Config: i.Config, MacAddress: old.NetworkSettings.MacAddress}}
}

// withMacAddress is a container up to 1.43.
type withMacAddress struct {
	legacyInspect
	Config legacyConfig
}

// legacyConfig is a configuration up to 1.43.
type legacyConfig struct {
	*types.Config
	MacAddress string `json:",omitempty"`
}

// text is an address as JSON has it: "" for none.
func text(a interface{ MarshalText() ([]byte, error) }) string {
	b, err := a.MarshalText()
	if err != nil {
		return ""
	}
	return string(b)
}

// createRequest is the body of POST /containers/create with what only older
// versions have.
type createRequest struct {
	types.CreateRequest
	MacAddress network.HardwareAddr // up to 1.43, of the container's first network
}

// current is the request in today's shape.
func (c *createRequest) current() types.CreateRequest {
	req := c.CreateRequest
	if len(c.MacAddress) == 0 || req.HostConfig == nil {
		return req
	}
	name := string(req.HostConfig.NetworkMode)
	if name == "" || name == network.NetworkDefault {
		name = network.NetworkBridge
	}
	if req.NetworkingConfig == nil {
		req.NetworkingConfig = &network.NetworkingConfig{}
	}
	if req.NetworkingConfig.EndpointsConfig == nil {
		req.NetworkingConfig.EndpointsConfig = map[string]*network.EndpointSettings{}
	}
	e := req.NetworkingConfig.EndpointsConfig[name]
	if e == nil {
		e = &network.EndpointSettings{}
		req.NetworkingConfig.EndpointsConfig[name] = e
	}
	if len(e.MacAddress) == 0 {
		e.MacAddress = c.MacAddress
	}
	return req
}
