package spec

import (
	"fmt"
	"slices"

	"github.com/moby/moby/api/types/container"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"tags.cncf.io/container-device-interface/pkg/cdi"
	"tags.cncf.io/container-device-interface/pkg/parser"

	"github.com/kelp-engine/kelp/engine/fault"
)

// cdiDriver is the driver of device requests that name devices by the
// Container Device Interface, whose files the host's vendors install.
const cdiDriver = "cdi"

// maxGPUs is more than a machine has.
const maxGPUs = 1024

// requested returns the CDI names of the devices that the requests ask for.
// Requests by capability (--gpus) mean NVIDIA's devices, as with Docker.
func requested(list []container.DeviceRequest) (names []string, err error) {
	for _, r := range list {
		switch {
		case r.Driver == cdiDriver:
			if r.Count != 0 || len(r.Options) > 0 || len(r.Capabilities) > 0 {
				return nil, fault.InvalidArgument("invalid device request: a request to the driver %q takes device ids only", cdiDriver)
			}
			for _, id := range r.DeviceIDs {
				if !parser.IsQualifiedName(id) {
					return nil, fault.InvalidArgument("invalid CDI device %q: it must be of the form VENDOR/CLASS=NAME", id)
				}
				names = append(names, id)
			}
		case r.Count > maxGPUs:
			return nil, fault.InvalidArgument("invalid device request: no machine has %d GPUs", r.Count)
		case (r.Driver == "" || r.Driver == "nvidia") && isGPU(r.Capabilities) && len(r.Options) == 0:
			names = append(names, gpus(r)...)
		default:
			return nil, noDriver(r)
		}
	}
	return names, nil
}

func noDriver(r container.DeviceRequest) error {
	return fault.InvalidArgument("could not select device driver %q with capabilities: %v", r.Driver, r.Capabilities)
}

func isGPU(capabilities [][]string) bool {
	return slices.ContainsFunc(capabilities, func(all []string) bool { return slices.Contains(all, "gpu") })
}

func gpus(r container.DeviceRequest) (names []string) {
	const kind = "nvidia.com/gpu="
	switch {
	case len(r.DeviceIDs) > 0:
		for _, id := range r.DeviceIDs {
			names = append(names, kind+id)
		}
	case r.Count < 0:
		names = append(names, kind+"all")
	default:
		for i := range max(r.Count, 1) {
			names = append(names, fmt.Sprintf("%s%d", kind, i))
		}
	}
	return names
}

// checkRequests refuses requests for devices that the host does not describe.
func checkRequests(list []container.DeviceRequest) error {
	names, err := requested(list)
	if err != nil || len(names) == 0 {
		return err
	}
	cache, err := cdi.NewCache(cdi.WithAutoRefresh(false))
	if err != nil {
		return fault.Internal("cannot read the host's CDI files: %w", err)
	}
	for _, name := range names {
		if cache.GetDevice(name) == nil {
			return fault.InvalidArgument("CDI device injection failed: unresolvable CDI devices %s", name).
				WithHint("the host's CDI files in %v do not describe it; for NVIDIA's GPUs 'nvidia-ctk cdi generate' writes one", cache.GetSpecDirectories())
		}
	}
	return nil
}

// addRequests lets CDI edit the spec for the devices that are asked for.
func addRequests(s *specs.Spec, list []container.DeviceRequest) error {
	names, err := requested(list)
	if err != nil || len(names) == 0 {
		return err
	}
	cache, err := cdi.NewCache(cdi.WithAutoRefresh(false))
	if err != nil {
		return fault.Internal("cannot read the host's CDI files: %w", err)
	}
	if _, err := cache.InjectDevices(s, names...); err != nil {
		return fault.InvalidArgument("CDI device injection failed: %w", err)
	}
	bindNodes(s)
	return nil
}

// bindNodes turns the device nodes that CDI asks for into binds, as nodes can
// be made by no user namespace.
func bindNodes(s *specs.Spec) {
	for _, d := range s.Linux.Devices {
		s.Mounts = append(s.Mounts, specs.Mount{
			Destination: d.Path, Type: "bind", Source: d.Path,
			Options: []string{"bind", "rprivate", "nosuid", "noexec"},
		})
	}
	s.Linux.Devices = nil
	s.Linux.Resources.Devices = []specs.LinuxDeviceCgroup{{Allow: true, Access: "rwm"}}
}
