package apiserver

import (
	types "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/api/types/network"

	"github.com/kelp-engine/kelp/engine/fault"
)

// What older versions meant by the same request. All differences are in this
// file.

// createRequest is the body of POST /containers/create with what only older
// versions have.
type createRequest struct {
	types.CreateRequest
	MacAddress network.HardwareAddr // up to 1.51, of the container's first network
}

// current is the request in today's shape, with warnings about what is left
// of older ones.
func (c *createRequest) current(r *request) (req types.CreateRequest, warnings []string, err error) {
	req = c.CreateRequest
	if req.HostConfig == nil {
		req.HostConfig = &types.HostConfig{}
	}
	if req.Config != nil && req.Config.Healthcheck != nil && !r.since("1.44") {
		req.Config.Healthcheck.StartInterval = 0
	}
	if err := downgrade(r, req.HostConfig); err != nil {
		return req, nil, err
	}
	if len(c.MacAddress) == 0 {
		return req, nil, nil
	}
	if r.since("1.52") {
		return req, nil, fault.InvalidArgument("container-wide MAC address no longer supported; use endpoint-specific MAC address instead")
	}
	if r.since("1.44") {
		warnings = []string{"The container-wide MacAddress field is now deprecated. It should be specified in EndpointsConfig instead."}
	}
	return req, warnings, c.moveMacAddress(&req)
}

// moveMacAddress puts the container's address to its first network.
func (c *createRequest) moveMacAddress(req *types.CreateRequest) error {
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
	if len(e.MacAddress) > 0 && e.MacAddress.String() != c.MacAddress.String() {
		return fault.InvalidArgument("the container-wide MAC address must match the endpoint-specific MAC address for the main network, or be left empty")
	}
	e.MacAddress = c.MacAddress
	return nil
}

// downgrade makes h mean what it meant in the client's version: members that
// came later are not read, and defaults are the old ones.
func downgrade(r *request, h *types.HostConfig) error {
	if !r.since("1.25") {
		h.AutoRemove = false // the client removes the container
	}
	if !r.since("1.40") && h.IpcMode.IsEmpty() {
		h.IpcMode = types.IPCModeShareable
	}
	if !r.since("1.41") {
		h.CgroupnsMode = types.CgroupnsModeEmpty
	}
	if !r.since("1.42") {
		h.ConsoleSize = [2]uint{}
	}
	if !r.since("1.44") {
		for i := range h.Mounts {
			if err := downgradeMount(r, &h.Mounts[i]); err != nil {
				return err
			}
		}
	}
	return nil
}

// downgradeMount is downgrade of a mount, before 1.44: read-only mounts were
// not so below their root.
func downgradeMount(r *request, m *mount.Mount) error {
	if m.Type != mount.TypeBind {
		return nil
	}
	if m.BindOptions == nil {
		m.BindOptions = &mount.BindOptions{}
	}
	o := m.BindOptions
	if o.ReadOnlyForceRecursive {
		return fault.InvalidArgument("BindOptions.ReadOnlyForceRecursive needs API v1.44 or newer")
	}
	if !r.since("1.40") {
		o.NonRecursive = false
	}
	if !r.since("1.42") {
		o.CreateMountpoint = false
	}
	o.ReadOnlyNonRecursive = m.ReadOnly
	return nil
}

// downgradeUpdate leaves out what the client's version did not update.
func downgradeUpdate(r *request, u *types.Resources) {
	if !r.since("1.40") {
		u.PidsLimit = nil
	}
	if !r.since("1.55") {
		u.BlkioWeightDevice = nil
		u.BlkioDeviceReadBps, u.BlkioDeviceWriteBps = nil, nil
		u.BlkioDeviceReadIOps, u.BlkioDeviceWriteIOps = nil, nil
	}
}
