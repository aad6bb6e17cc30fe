package container

import (
	"github.com/moby/moby/api/types/container"
)

type monitor struct{}

func checkHealth(*container.HealthConfig) error               { return nil }
func initialHealth(*container.HealthConfig) *container.Health { return nil }
func endedHealth(h *container.Health) *container.Health       { return h }
func (m *runner) watchHealth(c *Container)                    {}
func (c *Container) stopHealth()                              {}
