// Package cmd is kelp's command line: few commands, each with errors that say
// what to do.
//
// It must not do what the Engine API can do; that is the docker client's.
package cmd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/urfave/cli/v2"

	"github.com/kelp-engine/kelp/engine"
	"github.com/kelp-engine/kelp/userns"
)

// Main runs the command line and returns the exit code.
func Main(args []string) int {
	app := &cli.App{
		Name:            "kelp",
		Usage:           "a container engine that needs no root",
		HideHelpCommand: false,
		Version:         engine.Version(),
		Commands:        []*cli.Command{daemonCommand, envCommand, stopCommand, statusCommand, demoCommand, versionCommand},
		ExitErrHandler:  func(*cli.Context, error) {}, // errors are printed below
		Suggest:         true,
	}
	return run(app, args)
}

func run(app *cli.App, args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := app.RunContext(ctx, args)
	if err == nil {
		return 0
	}
	if exit, ok := errors.AsType[userns.ExitError](err); ok {
		return int(exit)
	}
	fmt.Fprintln(os.Stderr, "kelp:", err)
	return 1
}

var versionCommand = &cli.Command{
	Name:  "version",
	Usage: "print the version",
	Action: func(c *cli.Context) error {
		_, err := fmt.Fprintln(c.App.Writer, "kelp", engine.Version())
		return err
	},
}
