package cmd

import (
	"fmt"
	"os"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/kelp-engine/kelp/engine/fault"
	"github.com/kelp-engine/kelp/engine/keeper"
)

var restartCommand = &cli.Command{
	Name:  "restart",
	Usage: "replace the engine by this kelp; containers run on",
	Description: `For an upgrade, and for changed settings. Containers, their output, networks and attached clients
stay with the keeper, which is not replaced: 'kelp stop' ends that. Other requests that are being answered, a pull say,
break off. An engine that cannot start is replaced by the old one again.`,
	Flags:  settingsFlags,
	Before: noArguments,
	Action: func(c *cli.Context) error {
		s, err := readSettings(c)
		if err != nil {
			return err
		}
		r, err := findRunning(c.Context, s)
		if err != nil {
			return err
		}
		if err := r.matches(s); err != nil {
			return err
		}
		self, err := os.Executable()
		if err != nil {
			return fmt.Errorf("cannot find kelp's own binary: %w", err)
		}
		s.DataRoot, s.Socket = r.DataRoot, r.Socket
		if r.RuntimeDir != "" {
			s.RuntimeDir = r.RuntimeDir
		}
		s.reload = time.Now().UnixNano()
		err = r.client.RestartEngine(c.Context, keeper.RestartRequest{Engine: []string{self, "daemon"}, EngineEnv: s.engineEnv()})
		if err != nil {
			return fmt.Errorf("cannot replace the engine by %s: %w", self, err)
		}
		if r, err = findRunning(c.Context, s); err != nil {
			return err
		}
		st := r.status(c.Context)
		if st.Version != c.App.Version { // a keeper that knows one path only
			return fault.Conflict("the engine was started again, but it is kelp %s: the keeper is too old to replace it", st.Version).
				WithHint("run 'kelp stop', and start it again")
		}
		_, err = fmt.Fprintf(c.App.Writer, "the engine is kelp %s, pid %d\n", st.Version, st.EnginePID)
		return err
	},
}
