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
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kelp-engine/kelp/engine/fault"
	"github.com/kelp-engine/kelp/engine/keeper"
	"github.com/kelp-engine/kelp/engine/runtime"
)

// grace is how long the engine may take to stop all containers at shutdown.
const grace = 60 * time.Second

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
	level := slog.LevelInfo
	if cfg.Debug {
		level = slog.LevelDebug
	}
	slog.SetDefault(slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level})).With("process", "keeper"))

	lock, err := lockData(cfg.DataRoot)
	if err != nil {
		return err
	}
	defer lock.Close()
	adoptOrphans()

	api, err := listenAPI(cfg)
	if err != nil {
		return fmt.Errorf("cannot listen for API clients: %w", err)
	}
	l, err := listen(cfg.RuntimeDir)
	if err != nil {
		return fmt.Errorf("cannot make the keeper's socket: %w", err)
	}
	return run(cfg, l, api)
}

func run(cfg keeper.Config, l *net.UnixListener, api *os.File) error {
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

	rt, err := runtime.New(filepath.Join(cfg.RuntimeDir, "containers"))
	if err != nil {
		return err
	}
	tasks := newTasks(rt)
	engine := &supervisor{argv: cfg.Engine, env: cfg.EngineEnv, listen: api}
	s := newServer(cfg, engine, tasks, stop)

	// The socket is served until the engine has ended: stopping containers
	// needs it.
	serveCtx, stopServing := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- s.serve(serveCtx, l) }()
	engine.run(ctx, grace)
	stopServing()
	err = <-served
	tasks.stopAll()
	if cfg.Sockets == 0 {
		err = errors.Join(err, os.Remove(cfg.Socket))
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

// lockData takes the lock that makes this keeper the only one on the data
// root; the kernel gives it back when the process ends.
func lockData(dataRoot string) (*os.File, error) {
	if err := os.MkdirAll(dataRoot, 0o700); err != nil {
		return nil, fmt.Errorf("cannot make the data root: %w", err)
	}
	path := filepath.Join(dataRoot, "lock")
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot open the data root's lock: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		defer f.Close()
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("cannot lock the data root %s: %w", dataRoot, err)
		}
		holder := make([]byte, 16)
		n, _ := f.ReadAt(holder, 0)
		return nil, fault.Conflict("the data root %s is in use by another kelp (keeper pid %s)", dataRoot, strings.TrimSpace(string(holder[:n]))).
			WithHint("stop it with 'kelp stop', or choose another with --data-root")
	}
	if err := f.Truncate(0); err != nil {
		return nil, err
	}
	_, err = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	return f, err
}

// listenAPI returns the Engine API's listening socket: the one that systemd
// handed over, or a new one that replaces a stale one.
func listenAPI(cfg keeper.Config) (*os.File, error) {
	if cfg.Sockets > 0 {
		return os.NewFile(3, "systemd-socket"), nil
	}
	if err := os.Remove(cfg.Socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: cfg.Socket, Net: "unix"})
	if err != nil {
		return nil, err
	}
	defer l.Close()
	l.SetUnlinkOnClose(false)
	if err := os.Chmod(cfg.Socket, 0o600); err != nil {
		return nil, err
	}
	return l.File()
}
