// Package userns enters the user namespace that all of kelp but `kelp daemon`
// itself lives in, with RootlessKit's parent and child.
//
// `kelp daemon` runs Parent; RootlessKit re-executes the binary, whose main
// then runs Child, which returns inside the namespace with every capability
// there. It must not know what runs in the namespace afterwards.
package userns

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"github.com/rootless-containers/rootlesskit/v3/pkg/child"
	"github.com/rootless-containers/rootlesskit/v3/pkg/parent"
	"github.com/sirupsen/logrus"

	"github.com/kelp-engine/kelp/engine/fault"
)

// Environment of the re-executed stages.
const (
	pipeEnv       = "KELP_USERNS_PIPE"
	stateDirEnv   = "KELP_USERNS_STATE"
	activationEnv = "KELP_USERNS_ACTIVATION"
	helperEnv     = "KELP_USERNS_ACTIVATION_HELPER"
	evacuateEnv   = "KELP_USERNS_EVACUATE"
)

// Options for Parent.
type Options struct {
	// StateDir is RootlessKit's own directory; its content is replaced.
	StateDir string
	// Evacuate names the cgroup, below the caller's own, that the caller's
	// processes move to so that controllers can be enabled for containers.
	// "" leaves cgroups alone.
	Evacuate string
}

// Parent re-executes this program with the same arguments in a new user and
// mount namespace whose ids are the caller's (as 0) and its subordinate ones,
// passes signals on to it and returns when it ends.
func Parent(o Options) error {
	if os.Geteuid() == 0 {
		return fault.PermissionDenied("kelp is not for root").WithHint("run it as an ordinary user")
	}
	if err := parent.InitStateDir(o.StateDir); err != nil {
		return fmt.Errorf("cannot prepare %s: %w", o.StateDir, err)
	}
	logrus.SetLevel(logrus.ErrorLevel) // RootlessKit warns about what kelp checks itself
	if o.Evacuate != "" {
		if err := os.Setenv(evacuateEnv, "1"); err != nil {
			return err
		}
	}
	err := parent.Parent(parent.Opt{
		PipeFDEnvKey:             pipeEnv,
		ChildUseActivationEnvKey: activationEnv,
		StateDir:                 o.StateDir,
		StateDirEnvKey:           stateDirEnv,
		Propagation:              "rslave",
		EvacuateCgroup2:          o.Evacuate,
		SubidSource:              parent.SubidSourceAuto,
	})
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.Exited() {
		return ExitError(exit.ExitCode())
	}
	return explain(err)
}

// ExitError is the exit code of the namespaced process, which has already
// said on standard error why it ended.
type ExitError int

func (e ExitError) Error() string { return fmt.Sprintf("the keeper ended with exit code %d", int(e)) }

// explain puts a remedy to the failures that a user can do something about.
func explain(err error) error {
	if err == nil {
		return nil
	}
	text := err.Error()
	switch {
	case errors.Is(err, exec.ErrNotFound):
		return fault.Unavailable("cannot map user ids: newuidmap is not installed").
			WithHint("ask the administrator to install it (Debian, Ubuntu: apt-get install uidmap; Fedora: dnf install shadow-utils)")
	case strings.Contains(text, "failed to compute uid/gid map"):
		return fault.Unavailable("cannot map user ids: %w", err).
			WithHint("ask the administrator to run: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 %s", userName())
	case strings.Contains(text, "failed to start the child"):
		return fault.Unavailable("cannot make a user namespace: %w", err).
			WithHint("run 'kelp doctor' to see what forbids it")
	}
	return fmt.Errorf("cannot enter the user namespace: %w", err)
}

func userName() string {
	if u := os.Getenv("USER"); u != "" {
		return u
	}
	return fmt.Sprint(os.Getuid())
}

// IsChild says whether this process was started by Parent, or by RootlessKit
// on its behalf.
func IsChild() bool {
	return os.Getenv(pipeEnv) != "" || os.Getenv(stateDirEnv) != ""
}

// Child finishes the entry into the namespace that Parent began. When it
// returns nil, the process is inside with every capability, in a mount
// namespace of its own where mounts of the host still arrive.
//
// noop is a program that does nothing and succeeds; RootlessKit wants one to
// run. sockets is the number of listening sockets that systemd handed over,
// from file descriptor 3 on.
func Child(noop string) (sockets int, err error) {
	if os.Getenv(helperEnv) != "" {
		os.Exit(0) // RootlessKit's stand-in for noop under socket activation
	}
	activated := os.Getenv(activationEnv) == "true"
	evacuate := os.Getenv(evacuateEnv) != ""
	logrus.SetLevel(logrus.ErrorLevel)
	err = child.Child(child.Opt{
		PipeFDEnvKey:              pipeEnv,
		RunActivationHelperEnvKey: helperEnv,
		ChildUseActivationEnvKey:  activationEnv,
		StateDirEnvKey:            stateDirEnv,
		TargetCmd:                 []string{noop, "noop"},
		Propagation:               "rslave",
		EvacuateCgroup2:           evacuate,
	})
	if err != nil {
		return 0, err
	}
	if activated {
		if _, err := fmt.Sscan(os.Getenv("LISTEN_FDS"), &sockets); err != nil {
			return 0, fmt.Errorf("cannot take over systemd's sockets: LISTEN_FDS: %w", err)
		}
	}
	for _, name := range []string{pipeEnv, stateDirEnv, activationEnv, helperEnv, evacuateEnv, "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"} {
		os.Unsetenv(name)
	}
	return sockets, nil
}
