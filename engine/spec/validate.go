package spec

import (
	"fmt"

	"github.com/moby/moby/api/types/container"
)

// DefaultRuntime is the only OCI runtime: libcontainer, by the name that
// clients know it by.
const DefaultRuntime = "runc"

func sizeOption(bytes int64) string { return fmt.Sprintf("size=%d", bytes) }

// Validate refuses what the container cannot have, in Docker's words, and
// lists what it will run without. It may fill in defaults in hc that inspect
// shows, as Docker does.
func Validate(c *container.Config, hc *container.HostConfig, h Host) (warnings []string, err error) {
	return nil, nil
}
