package cmd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/kelp-engine/kelp/engine"
	"github.com/kelp-engine/kelp/engine/fault"
	"github.com/kelp-engine/kelp/engine/keeper"
	"github.com/kelp-engine/kelp/engine/keeper/program"
	"github.com/kelp-engine/kelp/userns"
	"github.com/kelp-engine/kelp/userns/rundir"
)

// settings are where one kelp keeps its things and how it speaks.
type settings struct {
	DataRoot   string
	RuntimeDir string
	Socket     string
	Debug      bool
}

var settingsFlags = []cli.Flag{
	&cli.StringFlag{Name: "data-root", Usage: "`DIR` for images, containers and volumes (default: $XDG_DATA_HOME/kelp or ~/.local/share/kelp)"},
	&cli.StringFlag{Name: "socket", Aliases: []string{"H"}, Usage: "`PATH` of the Engine API socket, also as unix://PATH (default: docker.sock in the runtime directory)"},
	&cli.BoolFlag{Name: "debug", Usage: "log in detail"},
}

// readSettings decides the settings from flags, and defaults.
func readSettings(c *cli.Context) (settings, error) {
	s := settings{Debug: c.Bool("debug")}
	var err error
	if s.RuntimeDir, err = rundir.Runtime(); err != nil {
		return s, err
	}
	if s.DataRoot = c.String("data-root"); s.DataRoot == "" {
		if s.DataRoot, err = rundir.Data(); err != nil {
			return s, err
		}
	}
	if s.DataRoot, err = filepath.Abs(s.DataRoot); err != nil {
		return s, err
	}
	socket, _ := strings.CutPrefix(c.String("socket"), "unix://")
	switch {
	case socket == "":
		socket = filepath.Join(s.RuntimeDir, rundir.APISocket)
	case strings.Contains(socket, "://"):
		return s, fault.InvalidArgument("cannot listen on %s: kelp serves a unix socket only", socket)
	}
	s.Socket, err = filepath.Abs(socket)
	return s, err
}

var daemonCommand = &cli.Command{
	Name:  "daemon",
	Usage: "run the engine in the foreground",
	Flags: settingsFlags,
	Action: func(c *cli.Context) error {
		s, err := readSettings(c)
		if err != nil {
			return err
		}
		if h, err := keeper.NewClient(s.RuntimeDir).Hello(c.Context); err == nil {
			return attend(c.Context, s, h)
		}
		return userns.Parent(userns.Options{StateDir: filepath.Join(s.RuntimeDir, "userns")})
	},
}

// attend stays with a keeper that outlived its `kelp daemon`, as if it had
// started it: it returns when the keeper ends, and a signal ends the keeper.
func attend(ctx context.Context, s settings, h keeper.Hello) error {
	if h.DataRoot != s.DataRoot || h.Socket != s.Socket {
		return fault.Conflict("a kelp with data root %s and socket %s already runs", h.DataRoot, h.Socket).
			WithHint("stop it first with 'kelp stop'")
	}
	fmt.Fprintf(os.Stderr, "kelp: taking over the running keeper (pid %d)\n", h.PID)
	client := keeper.NewClient(s.RuntimeDir)
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return stopKeeper(context.WithoutCancel(ctx), client)
		case <-tick.C:
			if now, err := client.Hello(ctx); ctx.Err() == nil && (err != nil || now.PID != h.PID) {
				return nil
			}
		}
	}
}

// stopKeeper shuts everything down and waits until it is gone.
func stopKeeper(ctx context.Context, client *keeper.Client) error {
	if err := client.Shutdown(ctx); err != nil {
		return err
	}
	for {
		if _, err := client.Hello(ctx); err != nil {
			return ctx.Err()
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Keeper is the stage inside the user namespace: it becomes the keeper.
func Keeper() int {
	app := &cli.App{Name: "kelp", Commands: []*cli.Command{{Name: "daemon", Flags: settingsFlags, Action: becomeKeeper}}, ExitErrHandler: func(*cli.Context, error) {}}
	return run(app, os.Args)
}

func becomeKeeper(c *cli.Context) error {
	f, path, err := program.Open()
	if err != nil {
		return err
	}
	sockets, err := userns.Child(path)
	if err != nil {
		return err
	}
	s, err := readSettings(c)
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("cannot find kelp's own binary: %w", err)
	}
	cfg := engine.Config{DataRoot: s.DataRoot, RuntimeDir: s.RuntimeDir, Socket: s.Socket, Debug: s.Debug}
	return program.Exec(f, keeper.Config{
		DataRoot: s.DataRoot, RuntimeDir: s.RuntimeDir, Socket: s.Socket, Sockets: sockets,
		Engine: []string{self, "daemon"}, EngineEnv: []string{engineEnv + "=" + encode(cfg)},
		Version: engine.Version(), Debug: s.Debug,
	})
}

// logTo makes slog write to standard error, as process name.
func logTo(name string, debug bool) {
	level := slog.LevelInfo
	if debug {
		level = slog.LevelDebug
	}
	slog.SetDefault(slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level})).With("process", name))
}

// stopSignal returns a channel that gets the signal to stop everything.
func stopSignal() <-chan os.Signal {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGTERM)
	return c
}

var errEngineFD = errors.New("the engine got no listening socket as file descriptor 3")
