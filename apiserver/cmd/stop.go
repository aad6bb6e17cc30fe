package cmd

import (
	"errors"
	"fmt"
	"time"

	"github.com/containerd/errdefs"
	"github.com/urfave/cli/v2"

	"github.com/kelp-engine/kelp/engine/fault"
)

var stopCommand = &cli.Command{
	Name:  "stop",
	Usage: "stop all containers and the engine",
	Flags: append([]cli.Flag{
		&cli.DurationFlag{Name: "timeout", Aliases: []string{"t"}, Usage: "kill what has not stopped after `TIME`, such as 10s", DefaultText: "1m"},
	}, placeFlags...),
	Before: noArguments,
	Action: func(c *cli.Context) error {
		timeout := c.Duration("timeout")
		if c.IsSet("timeout") && timeout < time.Millisecond {
			return fault.InvalidArgument("the timeout %s is too short", timeout)
		}
		s, err := readSettings(c)
		if err != nil {
			return err
		}
		r, err := findRunning(c.Context, s)
		if lost, ok := errors.AsType[errLost](err); ok {
			return stopLost(c.Context, lost.Holder, timeout)
		}
		if errdefs.IsNotFound(err) {
			_, err := fmt.Fprintln(c.App.ErrWriter, "kelp does not run")
			return err
		}
		if err == nil {
			err = r.matches(s)
		}
		if err != nil {
			return err
		}
		return r.stop(c.Context, timeout)
	},
}
