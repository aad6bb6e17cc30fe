package runtime

import (
	"fmt"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/kelp-engine/kelp/engine/fault"
)

// Update replaces the container's resource limits by r, all of them.
func (c *Container) Update(r *specs.LinuxResources) error {
	if !c.cgroup {
		return fault.NotImplemented("cannot change the container's resource limits: it has no cgroup").
			WithHint("run 'kelp doctor' to see what is missing for limits")
	}
	config := c.c.Config()
	group := *config.Cgroups
	limits, err := limitsOf(r, &group)
	if err != nil {
		return err
	}
	limits.Devices, limits.Freezer = group.Resources.Devices, group.Resources.Freezer
	group.Resources = limits
	config.Cgroups = &group
	if err := c.c.Set(config); err != nil {
		return fmt.Errorf("cannot change the container's resource limits: %w", err)
	}
	return nil
}
