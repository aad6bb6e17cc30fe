package cmd

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/kelp-engine/kelp/engine"
	"github.com/kelp-engine/kelp/engine/keeper"
	"github.com/kelp-engine/kelp/engine/keeper/program"
	"github.com/kelp-engine/kelp/userns"
)

// settingsEnv carries the settings of `kelp daemon` into the user namespace.
const settingsEnv = "KELP_SETTINGS"

// Keeper is the stage inside the user namespace: it becomes the keeper. It
// returns only when that fails, with the exit code.
func Keeper() int {
	if err := becomeKeeper(); !userns.IsParentGone(err) {
		fmt.Fprintln(os.Stderr, "kelp:", err)
	}
	return 1
}

// becomeKeeper returns only when it fails.
func becomeKeeper() error {
	f, path, err := program.Open()
	if err != nil {
		return err
	}
	sockets, err := userns.Child(path)
	if err != nil {
		return err
	}
	var s settings
	if err := json.Unmarshal([]byte(os.Getenv(settingsEnv)), &s); err != nil {
		return fmt.Errorf("cannot read the settings from %s: %w", settingsEnv, err)
	}
	os.Unsetenv(settingsEnv)
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("cannot find kelp's own binary: %w", err)
	}
	return program.Exec(f, keeper.Config{
		DataRoot: s.DataRoot, RuntimeDir: s.RuntimeDir, Socket: s.Socket, Sockets: sockets,
		Engine: []string{self, "daemon"}, EngineEnv: s.engineEnv(),
		Version: engine.Version(), Log: s.Log,
	})
}
