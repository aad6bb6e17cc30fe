// Command kelp is a container engine that needs no root and serves the Docker
// Engine API to its own user.
package main

import (
	"os"

	"go.podman.io/storage/pkg/reexec"

	"github.com/kelp-engine/kelp/apiserver/cmd"
	"github.com/kelp-engine/kelp/apiserver/cmd/doctor"
	"github.com/kelp-engine/kelp/userns"
	"github.com/kelp-engine/kelp/userns/probe"
)

func main() {
	// Stages that this binary is re-executed for come first: they must not
	// parse a command line that is not theirs.
	switch {
	case reexec.Init(): // containers/storage unpacks layers in a process of its own
	case userns.IsChild():
		os.Exit(cmd.Keeper())
	case probe.IsStage():
		os.Exit(probe.Stage())
	case doctor.IsTrial():
		os.Exit(doctor.Trial())
	case cmd.IsNetworkStage():
		os.Exit(cmd.NetworkStage())
	case cmd.IsEngine():
		os.Exit(cmd.Engine())
	default:
		os.Exit(cmd.Main(os.Args))
	}
}
