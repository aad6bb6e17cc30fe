package cmd

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"os"
	"time"

	"github.com/kelp-engine/kelp/apiserver"
	"github.com/kelp-engine/kelp/engine"
)

// engineEnv holds the engine's configuration; its presence makes this process
// the engine.
const engineEnv = "KELP_ENGINE"

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
	if err := runEngine(context.Background()); err != nil {
		slog.Error("the engine failed", "error", err)
		return 1
	}
	return 0
}

func runEngine(ctx context.Context) error {
	var cfg engine.Config
	if err := json.Unmarshal([]byte(os.Getenv(engineEnv)), &cfg); err != nil {
		return fmt.Errorf("cannot read the engine's configuration: %w", err)
	}
	os.Unsetenv(engineEnv)
	logTo("engine", cfg.Debug)
	stop := stopSignal()

	listener := os.NewFile(3, "api-socket")
	l, err := net.FileListener(listener)
	if err != nil {
		return fmt.Errorf("%w: %w", errEngineFD, err)
	}
	listener.Close()
	e, err := engine.New(cfg)
	if err != nil {
		return err
	}
	defer e.Close()
	if err := e.Recover(ctx); err != nil {
		return err
	}
	s := apiserver.New(e)
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	slog.Info("the engine is up", "socket", cfg.Socket, "pid", os.Getpid())
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
