package cmd

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/kelp-engine/kelp/apiserver"
	"github.com/kelp-engine/kelp/engine"
	"github.com/kelp-engine/kelp/engine/keeper"
	"github.com/kelp-engine/kelp/userns/daemonlog"
	"github.com/kelp-engine/kelp/userns/footprint"
)

// engineEnv holds the engine's configuration; its presence makes this process
// the engine.
const engineEnv = "KELP_ENGINE"

// engineConfig is what the engine's stage is started with.
type engineConfig struct {
	engine.Config
	Log daemonlog.Options `json:"log"`
}

// engineEnv is the environment that makes a kelp the engine with the settings.
func (s settings) engineEnv() []string {
	return []string{engineEnv + "=" + encode(engineConfig{
		Config: engine.Config{
			DataRoot: s.DataRoot, RuntimeDir: s.RuntimeDir, Socket: s.Socket,
			Debug: s.Log.Level == "debug", Networks: s.Networks, Insecure: s.Insecure, Reload: s.reload,
		},
		Log: s.Log,
	})}
}

// IsEngine says whether the keeper started this process as the engine.
func IsEngine() bool { return os.Getenv(engineEnv) != "" }

func encode(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // plain data
	}
	return string(b)
}

// Engine is the engine's stage. It returns the exit code.
func Engine() int {
	syscall.CloseOnExec(keeper.EngineListenFD)
	syscall.CloseOnExec(keeper.EngineReportFD)
	if err := runEngine(context.Background()); err != nil {
		slog.Error("the engine failed", "error", err)
		return 1
	}
	return 0
}

func runEngine(ctx context.Context) error {
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)

	e, l, err := startEngine(ctx)
	if err != nil {
		_ = keeper.ReportStart(err) // it is logged as well
		return err
	}
	defer e.Close()
	s := apiserver.New(e)
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	if err := keeper.ReportStart(nil); err != nil {
		return fmt.Errorf("cannot report to the keeper: %w", err)
	}
	slog.Info("the engine is up", "pid", os.Getpid())
	footprint.TrimAfter(settled)
	select {
	case err := <-served:
		return err
	case <-stop:
	}
	slog.Info("stopping all containers")
	if err := e.StopAll(ctx); err != nil {
		slog.Error("cannot stop all containers", "error", err)
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	_ = s.Shutdown(ctx)
	return nil
}

// startEngine makes the engine, ready to serve the listener.
func startEngine(ctx context.Context) (*engine.Engine, net.Listener, error) {
	var cfg engineConfig
	if err := json.Unmarshal([]byte(os.Getenv(engineEnv)), &cfg); err != nil {
		return nil, nil, fmt.Errorf("cannot read the engine's configuration from %s: %w", engineEnv, err)
	}
	os.Unsetenv(engineEnv)
	daemonlog.Setup("engine", cfg.Log)

	f := os.NewFile(keeper.EngineListenFD, "api-socket")
	l, err := net.FileListener(f)
	f.Close()
	if err != nil {
		return nil, nil, fmt.Errorf("cannot listen on file descriptor %d: %w", keeper.EngineListenFD, err)
	}
	e, err := engine.New(cfg.Config)
	if err != nil {
		return nil, nil, err
	}
	if err := e.Recover(ctx); err != nil {
		e.Close()
		return nil, nil, err
	}
	return e, l, nil
}
