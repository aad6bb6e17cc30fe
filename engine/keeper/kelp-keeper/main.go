// Command kelp-keeper is the keeper, libcontainer's init, which the keeper
// executes by re-executing itself, and the program of `docker run --init`.
// kelp embeds it; nobody installs it.
package main

import (
	"fmt"
	"os"

	"github.com/kelp-engine/kelp/engine/keeper/pid1"
	"github.com/kelp-engine/kelp/engine/keeper/server"
	"github.com/kelp-engine/kelp/engine/runtime"
)

func main() {
	if pid1.Is(os.Args) {
		os.Exit(pid1.Run(os.Args))
	}
	stage := server.Main
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "init":
			stage = runtime.Init
		case runtime.CompileStage:
			stage = runtime.CompileSeccomp
		case "noop":
			return
		}
	}
	if err := stage(); err != nil {
		fmt.Fprintln(os.Stderr, "kelp:", err)
		os.Exit(1)
	}
}
