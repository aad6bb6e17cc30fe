package runtime

import (
	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/runc/libcontainer/configs"
	"github.com/opencontainers/runc/libcontainer/specconv"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/kelp-engine/kelp/engine/fault"
)

// convert makes libcontainer's configuration of a spec.
func convert(cfg Config) (*configs.Config, error) {
	spec := *cfg.Spec
	linux := *spec.Linux
	spec.Linux = &linux
	linux.CgroupsPath = cfg.Cgroup
	if cfg.Cgroup == "" {
		linux.Resources = nil // the engine has warned of each limit
	}
	config, err := specconv.CreateLibcontainerConfig(&specconv.CreateOpts{
		CgroupName:       cfg.ID,
		UseSystemdCgroup: cfg.SystemdCgroup,
		Spec:             &spec,
		RootlessEUID:     false, // we are root of our namespace
		RootlessCgroups:  true,
	})
	if err != nil {
		return nil, fault.InvalidArgument("cannot use the container's spec: %w", err)
	}
	return config, nil
}

// limitsOf converts resources alone, for a container in group.
func limitsOf(r *specs.LinuxResources, group *cgroups.Cgroup) (*cgroups.Resources, error) {
	converted, err := specconv.CreateCgroupConfig(&specconv.CreateOpts{
		CgroupName:       group.Name,
		UseSystemdCgroup: group.Systemd,
		Spec:             &specs.Spec{Linux: &specs.Linux{Resources: r, CgroupsPath: group.Path}},
		RootlessCgroups:  true,
	}, nil)
	if err != nil {
		return nil, fault.InvalidArgument("cannot use the resource limits: %w", err)
	}
	return converted.Resources, nil
}
