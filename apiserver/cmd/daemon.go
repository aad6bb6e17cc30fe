package cmd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/containerd/errdefs"
	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"github.com/kelp-engine/kelp/apiserver/cmd/doctor"
	"github.com/kelp-engine/kelp/engine/fault"
	"github.com/kelp-engine/kelp/userns"
	"github.com/kelp-engine/kelp/userns/cgroup"
	"github.com/kelp-engine/kelp/userns/footprint"
	"github.com/kelp-engine/kelp/userns/sdnotify"
)

// logFileEnv tells a daemon the path of the file that its standard error is.
const logFileEnv = "KELP_LOG_FILE"

// settled is how long a start may take before its memory is given back.
const settled = 3 * time.Second

var daemonCommand = &cli.Command{
	Name:  "daemon",
	Usage: "run the engine in the foreground",
	Description: "It ends, with all containers, at SIGTERM or SIGINT. When it is killed, containers run on\n" +
		"and the next 'kelp daemon' or 'kelp env' finds them.",
	Flags:  settingsFlags,
	Before: noArguments,
	Action: func(c *cli.Context) error {
		s, err := readSettings(c)
		if err != nil {
			return err
		}
		if err := checkDataRoot(s.DataRoot); err != nil {
			return err
		}
		unlock, err := lockDaemon(c.Context, s)
		if err != nil {
			return err
		}
		defer unlock()
		r, err := findLive(c.Context, s)
		if err == nil {
			return attend(c.Context, s, r)
		}
		if !errdefs.IsNotFound(err) {
			return err
		}
		s.Log.File = os.Getenv(logFileEnv)
		if err := os.Unsetenv(logFileEnv); err != nil {
			return err
		}
		if err := os.Setenv(settingsEnv, encode(s)); err != nil {
			return err
		}
		o := userns.Options{RuntimeDir: s.RuntimeDir}
		if cgroup.Probe().Evacuate {
			o.Evacuate = cgroup.Evacuation
		}
		footprint.TrimAfter(settled)
		return diagnose(c.Context, s, userns.Parent(o))
	},
}

// checkDataRoot refuses a data root where containers could not work.
func checkDataRoot(dir string) error {
	if r := doctor.DataRoot(dir); r.Status == doctor.Fail {
		return fault.Unavailable("this data root will not do: %s", r.Detail).WithHint("%s", r.Remedy)
	}
	return nil
}

// diagnose adds to the failure to enter a user namespace what a doctor finds
// to be its cause, with the remedy.
func diagnose(ctx context.Context, s settings, err error) error {
	if fault.HintOf(err) != userns.RunDoctor {
		return err
	}
	results := doctor.Check(doctor.Gather(ctx, s.DataRoot, s.RuntimeDir, nil))
	if r, failed := doctor.FirstFailure(results); failed {
		return fault.Unavailable("cannot enter a user namespace: %s: %s", r.Name, r.Detail).WithHint("%s", r.Remedy)
	}
	return err
}

// daemonPatience is how long a daemon waits for one that is ending: its keeper
// is gone before it.
const daemonPatience = 15 * time.Second

// lockDaemon makes this the only `kelp daemon` of the data root.
func lockDaemon(ctx context.Context, s settings) (unlock func(), err error) {
	err = os.MkdirAll(s.DataRoot, 0o700)
	var f *os.File
	if err == nil {
		f, err = os.OpenFile(filepath.Join(s.DataRoot, "daemon.lock"), os.O_RDWR|os.O_CREATE, 0o600)
	}
	if err != nil {
		return nil, fault.Unavailable("cannot use the data root %s: %w", s.DataRoot, err).
			WithHint("choose a directory that you can write to with --data-root")
	}
	for deadline := time.Now().Add(daemonPatience); ; time.Sleep(20 * time.Millisecond) {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			f.Close()
			return nil, fmt.Errorf("cannot lock the data root %s: %w", s.DataRoot, err)
		}
		if _, err := findLive(ctx, s); err == nil || time.Now().After(deadline) {
			f.Close()
			return nil, fault.Conflict("another 'kelp daemon' runs on the data root %s", s.DataRoot).
				WithHint("stop it with 'kelp stop', or choose another data root, and another XDG_RUNTIME_DIR, for this one")
		}
	}
}

// attend stays with a keeper that outlived its `kelp daemon`, as if it had
// started it: it returns when the keeper ends, and a signal ends the keeper.
func attend(ctx context.Context, s settings, r running) error {
	if err := r.matches(s); err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "kelp: taking over the running keeper (pid %d)\n", r.PID)
	manager := sdnotify.Take()
	if err := r.client.WaitEngine(ctx); err != nil && ctx.Err() == nil {
		fmt.Fprintln(os.Stderr, "kelp: the engine does not serve at the moment:", err)
	}
	manager.Tell(sdnotify.Ready)
	defer manager.Tell(sdnotify.Stopping)
	if err := r.wait(ctx); ctx.Err() == nil {
		return err
	}
	return r.stop(context.WithoutCancel(ctx), 0)
}
