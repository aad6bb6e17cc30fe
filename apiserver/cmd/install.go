package cmd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"

	"github.com/containerd/errdefs"
	"github.com/urfave/cli/v2"

	"github.com/kelp-engine/kelp/apiserver/cmd/docker"
	"github.com/kelp-engine/kelp/engine/record"
	"github.com/kelp-engine/kelp/userns/account"
)

var installCommand = &cli.Command{
	Name:        "install",
	Usage:       "make kelp a service of your systemd session, and a docker context",
	Description: "It may be run again at any time, also after kelp has moved. It needs no root.",
	Flags:       settingsFlags,
	Before:      noArguments,
	Action: func(c *cli.Context) error {
		s, err := readSettings(c)
		if err != nil {
			return err
		}
		if err := installUnits(c, s); err != nil {
			return err
		}
		changed, err := docker.SetContext(s.Socket)
		if err != nil {
			return err
		}
		say(c, changed, "made the docker context kelp; to use it: docker context use kelp", "the docker context kelp is there already")
		return nil
	},
}

var uninstallCommand = &cli.Command{
	Name:        "uninstall",
	Usage:       "undo install; images, containers and volumes stay",
	Description: "The engine is stopped if systemd runs it.",
	Flags:       placeFlags,
	Before:      noArguments,
	Action: func(c *cli.Context) error {
		s, err := readSettings(c)
		if err != nil {
			return err
		}
		if err := uninstallUnits(c); err != nil {
			return err
		}
		removed, err := docker.RemoveContext()
		if err != nil {
			return err
		}
		say(c, removed, "removed the docker context kelp", "there is no docker context kelp")
		fmt.Fprintf(c.App.Writer, "your data stays in %s\n", s.DataRoot)
		return nil
	},
}

func say(c *cli.Context, changed bool, yes, no string) {
	if !changed {
		yes = no
	}
	fmt.Fprintln(c.App.Writer, yes)
}

// systemctl runs a command of the user's systemd.
func systemctl(ctx context.Context, args ...string) error {
	out, err := exec.CommandContext(ctx, "systemctl", append([]string{"--user", "--no-ask-password"}, args...)...).CombinedOutput()
	if err != nil {
		if said := bytes.TrimSpace(out); len(said) > 0 {
			err = fmt.Errorf("%s", said)
		}
		return fmt.Errorf("cannot run systemctl --user %s: %w", args[0], err)
	}
	return nil
}

func installUnits(c *cli.Context, s settings) error {
	if _, err := exec.LookPath("systemctl"); err != nil {
		fmt.Fprintln(c.App.Writer, "this machine has no systemd: made no service; start kelp with: eval $(kelp env)")
		return nil
	}
	changed, err := writeUnits(s)
	if err != nil {
		return err
	}
	say(c, changed, "wrote the units kelp.service and kelp.socket", "the units kelp.service and kelp.socket are there already")
	if err := systemctl(c.Context, "daemon-reload"); err != nil {
		fmt.Fprintf(c.App.Writer, "your systemd cannot be reached, so nothing was started (%v); when you have logged in with a session of your own, run: systemctl --user daemon-reload && systemctl --user enable --now kelp.socket\n", err)
		return nil
	}
	if err := systemctl(c.Context, "enable", serviceUnit, socketUnit); err != nil {
		return err
	}
	if r, err := findRunning(c.Context, s); err == nil && systemctl(c.Context, "is-active", "--quiet", socketUnit) != nil {
		fmt.Fprintf(c.App.Writer, "kelp runs already, outside of systemd (keeper pid %d); to hand over: kelp stop && systemctl --user start kelp.socket\n", r.PID)
	} else if err != nil && !errdefs.IsNotFound(err) {
		return err
	} else if err := systemctl(c.Context, "start", socketUnit); err != nil {
		return err
	} else {
		fmt.Fprintf(c.App.Writer, "systemd listens on %s and starts kelp for the first client\n", s.Socket)
	}
	if _, err := os.Stat("/var/lib/systemd/linger/" + account.Current().Name); err != nil {
		fmt.Fprintln(c.App.Writer, "containers end when you log out; to keep them: loginctl enable-linger")
	}
	return nil
}

// writeUnits says whether it changed anything.
func writeUnits(s settings) (changed bool, err error) {
	self, err := os.Executable()
	if err != nil {
		return false, err
	}
	dir, err := unitDir()
	if err != nil {
		return false, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return false, fmt.Errorf("cannot write units: %w", err)
	}
	for name, content := range units(self, s, os.Getenv("XDG_RUNTIME_DIR")) {
		path := filepath.Join(dir, name)
		now, err := checkUnit(path)
		if err == nil && now == content {
			continue
		}
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return false, err
		}
		if err := record.WriteFile(path, []byte(content), 0o644); err != nil {
			return false, fmt.Errorf("cannot write the unit %s: %w", name, err)
		}
		changed = true
	}
	return changed, nil
}

func uninstallUnits(c *cli.Context) error {
	dir, err := unitDir()
	if err != nil {
		return err
	}
	var there []string
	for _, name := range []string{socketUnit, serviceUnit} { // the socket first: no client starts the service again
		_, err := checkUnit(filepath.Join(dir, name))
		if err == nil {
			there = append(there, name)
		} else if !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	if len(there) == 0 {
		fmt.Fprintln(c.App.Writer, "there are no units of kelp")
		return nil
	}
	if err := systemctl(c.Context, slices.Concat([]string{"disable", "--now"}, there)...); err != nil {
		fmt.Fprintf(c.App.Writer, "your systemd cannot be reached, so nothing was stopped (%v)\n", err)
	}
	for _, name := range there {
		// Left over when systemd could not be reached.
		for _, target := range []string{"default.target.wants", "sockets.target.wants"} {
			os.Remove(filepath.Join(dir, target, name))
		}
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			return fmt.Errorf("cannot remove the unit %s: %w", name, err)
		}
	}
	_ = systemctl(c.Context, "daemon-reload") // told above if it cannot be reached
	fmt.Fprintln(c.App.Writer, "removed the units kelp.service and kelp.socket")
	return nil
}
