package cmd

import (
	"github.com/urfave/cli/v2"

	"github.com/kelp-engine/kelp/apiserver/cmd/demo"
)

var demoCommand = &cli.Command{
	Name:   "demo",
	Usage:  "start the engine if needed and run a container from an embedded image",
	Flags:  settingsFlags,
	Before: noArguments,
	Action: func(c *cli.Context) error {
		s, err := readSettings(c)
		if err != nil {
			return err
		}
		socket, err := ensureStarted(c.Context, s)
		if err != nil {
			return err
		}
		return demo.Run(c.Context, socket, c.App.Writer)
	},
}
