package cmd

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"time"

	"github.com/containerd/errdefs"
	"github.com/urfave/cli/v2"
)

// infoTimeout bounds how long status waits for the engine's own word.
const infoTimeout = 2 * time.Second

// status is the JSON of `kelp status --json`.
type status struct {
	Running       bool    `json:"running"`
	Version       string  `json:"version"` // of the engine, or while that does not answer the keeper's
	KeeperVersion string  `json:"keeper_version,omitempty"`
	Socket        string  `json:"socket"`
	DataRoot      string  `json:"data_root"`
	KeeperPID     int     `json:"keeper_pid,omitempty"`
	EnginePID     int     `json:"engine_pid,omitempty"` // absent while none runs
	EngineReady   bool    `json:"engine_ready"`
	EngineError   string  `json:"engine_error,omitempty"`
	StorageDriver string  `json:"storage_driver,omitempty"` // absent while the engine does not answer
	UptimeS       float64 `json:"uptime_s,omitempty"`       // of the keeper
	// KeeperGoroutines is for those who look for leaks; the engine's are in
	// `docker info`.
	KeeperGoroutines int `json:"keeper_goroutines,omitempty"`
}

var statusCommand = &cli.Command{
	Name:        "status",
	Usage:       "say whether the engine runs, and where",
	Description: "The exit code is 0 when it runs and 3 when it does not.",
	Flags:       append([]cli.Flag{jsonFlag}, placeFlags...),
	Before:      noArguments,
	Action: func(c *cli.Context) error {
		s, err := readSettings(c)
		if err != nil {
			return err
		}
		st := status{Version: c.App.Version, Socket: s.Socket, DataRoot: s.DataRoot}
		r, err := findRunning(c.Context, s)
		switch {
		case err == nil:
			st = r.status(c.Context)
		case !errdefs.IsNotFound(err):
			return err
		}
		if c.Bool("json") {
			err = printJSON(c, st)
		} else {
			_, err = io.WriteString(c.App.Writer, st.String())
		}
		if err == nil && !st.Running {
			err = exitCode(3)
		}
		return err
	},
}

func (r running) status(ctx context.Context) status {
	st := status{
		Running: true, Version: r.Version, KeeperVersion: r.Version, Socket: r.Socket, DataRoot: r.DataRoot,
		KeeperPID: r.PID, EnginePID: r.EnginePID, EngineReady: r.EngineReady, EngineError: r.EngineError,
		KeeperGoroutines: r.Goroutines,
		UptimeS:          math.Round(time.Since(time.Unix(0, r.StartedAt)).Seconds()*1000) / 1000,
	}
	if r.EngineReady {
		ctx, cancel := context.WithTimeout(ctx, infoTimeout)
		defer cancel()
		var info struct{ Driver, ServerVersion string }
		err := get(ctx, r.Socket, "/info", func(body io.Reader) error { return json.NewDecoder(body).Decode(&info) })
		if err == nil {
			st.StorageDriver, st.Version = info.Driver, info.ServerVersion
		}
	}
	return st
}

func (st status) String() string {
	if !st.Running {
		return "kelp does not run\n"
	}
	engine := fmt.Sprintf("pid %d", st.EnginePID)
	switch {
	case st.EngineError != "":
		engine = "cannot start: " + st.EngineError
	case !st.EngineReady:
		engine = "starting"
	}
	driver := st.StorageDriver
	if driver == "" {
		driver = "unknown"
	}
	keeper := fmt.Sprintf("pid %d", st.KeeperPID)
	if st.KeeperVersion != st.Version {
		keeper += " of kelp " + st.KeeperVersion
	}
	up := time.Duration(st.UptimeS * float64(time.Second)).Round(time.Second)
	return fmt.Sprintf("kelp %s runs, for %s\nengine          %s\nkeeper          %s\nsocket          %s\ndata root       %s\nstorage driver  %s\n",
		st.Version, up, engine, keeper, st.Socket, st.DataRoot, driver)
}
