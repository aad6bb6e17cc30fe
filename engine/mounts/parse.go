package mounts

import (
	"github.com/moby/moby/api/types/container"
)

// Parse lists the mount points that a container asks for, in Docker's order
// of precedence: Binds and Mounts over VolumesFrom over the image's Volumes.
// from finds the points of the containers that VolumesFrom names.
func Parse(c *container.Config, hc *container.HostConfig, from Source) (points []Point, err error) {
	return nil, nil
}
