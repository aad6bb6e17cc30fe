package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/kelp-engine/kelp/engine/keeper"
	"github.com/kelp-engine/kelp/engine/runtime"
	"github.com/kelp-engine/kelp/userns/daemonlog"
	"github.com/kelp-engine/kelp/userns/sdnotify"
)

// Main runs the keeper until it is told to shut down.
//
// Preconditions: the process is inside the user namespace, and ConfigEnv is
// set in its environment.
func Main() error {
	var cfg keeper.Config
	if err := json.Unmarshal([]byte(os.Getenv(keeper.ConfigEnv)), &cfg); err != nil {
		return fmt.Errorf("cannot read the keeper's configuration from %s: %w", keeper.ConfigEnv, err)
	}
	os.Unsetenv(keeper.ConfigEnv)
	daemonlog.Setup("keeper", cfg.Log)
	manager := sdnotify.Take()

	lock, err := keeper.LockData(cfg.DataRoot, cfg.RuntimeDir, cfg.Socket)
	if err != nil {
		return err
	}
	defer lock.Close()
	adoptOrphans()
	if err := prepareCgroups(cfg.DataRoot); err != nil {
		slog.Warn("containers get no cgroups", "error", err)
	}
	if dir, err := holdRuntimeDir(cfg.RuntimeDir); err == nil {
		defer dir.Close()
	} else {
		slog.Warn("cannot keep cleaners of old files away from the runtime directory", "error", err)
	}

	l, err := listenKeeper(cfg.RuntimeDir)
	if err != nil {
		return err
	}
	api, err := listenAPI(cfg)
	if err != nil {
		l.Close()
		return err
	}
	return run(cfg, l, api, manager)
}

func run(cfg keeper.Config, l *net.UnixListener, api *os.File, manager sdnotify.Manager) error {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	signals := make(chan os.Signal, 8)
	// Signals are caught, not ignored: a child would inherit their being ignored.
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGPIPE, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGQUIT)
	go func() {
		for sig := range signals {
			if sig == syscall.SIGTERM || sig == syscall.SIGINT {
				stop()
			}
		}
	}()
	context.AfterFunc(ctx, func() { manager.Tell(sdnotify.Stopping) })

	engine := newSupervisor(cfg, api, func() { manager.Tell(sdnotify.Ready) })
	rt, err := runtime.New(filepath.Join(cfg.RuntimeDir, "containers"))
	if err != nil {
		return err
	}
	reaped := make(chan struct{})
	go func() { defer close(reaped); runtime.ReapOrphans(ctx) }()
	defer func() { stop(); <-reaped }()
	tasks := newTasks(rt)
	s := newServer(cfg, engine, tasks, stop)

	// The socket is served until the engine has ended: stopping containers
	// needs it.
	serveCtx, stopServing := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- s.serve(serveCtx, l) }()
	err = engine.run(ctx)
	stopServing()
	err = errors.Join(err, <-served)
	tasks.stopAll()
	s.nets.closeAll()
	if cfg.Sockets == 0 {
		os.Remove(cfg.Socket) // gone already with the runtime directory, maybe
	}
	return err
}

// adoptOrphans makes processes whose parents in a container died the keeper's
// children, so that it can reap them.
func adoptOrphans() {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		slog.Warn("cannot become a subreaper", "error", err)
	}
}

// holdRuntimeDir takes the lock on the directory that keeps systemd-tmpfiles
// from removing what is in it when it is below /tmp (tmpfiles.d(5)).
func holdRuntimeDir(dir string) (*os.File, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
