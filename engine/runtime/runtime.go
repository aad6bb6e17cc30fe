// Package runtime runs containers with libcontainer, which it alone imports.
// It is linked into the keeper only.
//
// It must not know the engine's records, images or the Engine API.
package runtime

import (
	_ "github.com/opencontainers/cgroups/devices" // device rules of cgroups
	"github.com/opencontainers/runc/libcontainer"
	_ "github.com/opencontainers/runc/libcontainer/nsenter" // enters namespaces before Go starts
)

// Init is a container's first process before it becomes the user's program.
// It does not return.
func Init() { libcontainer.Init() }
