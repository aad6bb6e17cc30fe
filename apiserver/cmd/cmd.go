// Package cmd is kelp's command line: few commands, each with errors that say
// what to do.
//
// It must not do what the Engine API can do; that is the docker client's.
package cmd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"

	"github.com/urfave/cli/v2"

	"github.com/kelp-engine/kelp/apiserver"
	"github.com/kelp-engine/kelp/engine"
	"github.com/kelp-engine/kelp/engine/fault"
	"github.com/kelp-engine/kelp/userns"
)

const usage = `Kelp serves the Docker Engine API to its own user; use it with any docker client:

   eval $(kelp env)
   docker run --rm hello-world

It needs no root. 'kelp doctor' says what it can do on this machine.`

// Main runs the command line and returns the exit code.
func Main(args []string) int {
	if filepath.Base(args[0]) == dockerName {
		args = append([]string{"kelp", dockerName}, args[1:]...)
	}
	app := &cli.App{
		Name:        "kelp",
		Usage:       "a container engine that needs no root",
		Description: usage,
		Version:     engine.Version(),
		Commands: []*cli.Command{
			envCommand, statusCommand, stopCommand, restartCommand, doctorCommand, dockerCommand, proxyCommand, nsCommand, installCommand, uninstallCommand, demoCommand, daemonCommand, completionCommand, versionCommand,
		},
		EnableBashCompletion: true,
		Suggest:              true,
		Action:               noCommand,
		ExitErrHandler:       func(*cli.Context, error) {}, // run prints errors
	}
	app.OnUsageError = usageError
	for _, c := range app.Commands {
		c.OnUsageError = usageError
		c.HideHelpCommand = true
	}
	return run(app, args)
}

// usageError keeps the help text, which is long and would be shell code to
// `eval $(kelp env --typo)`, out of the answer to a wrong flag.
func usageError(c *cli.Context, err error, _ bool) error {
	help := "kelp help"
	if c.Command != nil && c.Command.Name != "" && c.Command.Name != c.App.Name {
		help = "kelp help " + c.Command.Name
	}
	return fault.InvalidArgument("%w", err).WithHint("run '%s'", help)
}

// noCommand runs when the first argument names no command.
func noCommand(c *cli.Context) error {
	if c.Args().Present() {
		return fault.InvalidArgument("unknown command %q", c.Args().First()).WithHint("run 'kelp help' for those that there are")
	}
	return cli.ShowAppHelp(c)
}

// noArguments is the Before of commands that take none, so that a misplaced
// one is not passed over in silence.
func noArguments(c *cli.Context) error {
	if c.Args().Present() {
		return fault.InvalidArgument("%s takes no argument %q", c.Command.Name, c.Args().First())
	}
	return nil
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
	if exit, ok := errors.AsType[exitCode](err); ok {
		return int(exit)
	}
	fmt.Fprintln(os.Stderr, "kelp:", err)
	return 1
}

// exitCode ends a command that has already said all there is to say.
type exitCode int

func (e exitCode) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

var jsonFlag = &cli.BoolFlag{Name: "json", Usage: "print JSON"}

func printJSON(c *cli.Context, v any) error {
	enc := json.NewEncoder(c.App.Writer)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

var versionCommand = &cli.Command{
	Name:   "version",
	Usage:  "print the version",
	Flags:  []cli.Flag{jsonFlag},
	Before: noArguments,
	Action: func(c *cli.Context) error {
		if c.Bool("json") {
			return printJSON(c, map[string]string{
				"version":         engine.Version(),
				"api_version":     apiserver.MaxAPIVersion,
				"min_api_version": apiserver.MinAPIVersion,
				"go_version":      runtime.Version(),
				"os":              runtime.GOOS,
				"arch":            runtime.GOARCH,
			})
		}
		_, err := fmt.Fprintln(c.App.Writer, "kelp", engine.Version())
		return err
	},
}
