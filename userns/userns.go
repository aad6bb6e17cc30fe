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
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/rootless-containers/rootlesskit/v3/pkg/child"
	"github.com/rootless-containers/rootlesskit/v3/pkg/parent"
	"github.com/sirupsen/logrus"

	"github.com/kelp-engine/kelp/userns/account"
	"github.com/kelp-engine/kelp/userns/procid"
)

// Environment of the re-executed stages.
const (
	pipeEnv       = "KELP_USERNS_PIPE"
	stateDirEnv   = "KELP_USERNS_STATE"
	activationEnv = "KELP_USERNS_ACTIVATION"
	helperEnv     = "KELP_USERNS_ACTIVATION_HELPER"
)

// Options for Parent.
type Options struct {
	// RuntimeDir is where RootlessKit gets a directory of its own.
	RuntimeDir string
	// Evacuate names the cgroup, below the caller's own, that the caller's
	// processes move to so that controllers can be enabled for containers.
	// "" leaves cgroups alone.
	Evacuate string
}

// Parent re-executes this program with the same arguments in a new user and
// mount namespace whose ids are the caller's (as 0) and its subordinate ones,
// passes signals on to it and returns when it ends.
func Parent(o Options) error {
	stateDir, err := makeStateDir(o.RuntimeDir)
	if err != nil {
		return err
	}
	account.Export()                   // RootlessKit asks os/user
	logrus.SetLevel(logrus.ErrorLevel) // RootlessKit warns about what kelp checks itself
	err = parent.Parent(parent.Opt{
		PipeFDEnvKey:             pipeEnv,
		ChildUseActivationEnvKey: activationEnv,
		StateDir:                 stateDir,
		StateDirEnvKey:           stateDirEnv,
		Propagation:              "rslave",
		EvacuateCgroup2:          o.Evacuate,
		SubidSource:              parent.SubidSourceAuto,
	})
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && strings.HasPrefix(err.Error(), "child exited") {
		if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
			return fmt.Errorf("the keeper was ended by signal %d (%s)", status.Signal(), status.Signal())
		}
		return ExitError(exit.ExitCode())
	}
	return explain(err)
}

// statePrefix begins the names of RootlessKit's directories. Each process has
// one of its own: one that ends removes its directory after it has given up
// the lock on it.
const statePrefix = "userns-"

// makeStateDir makes RootlessKit's directory, and removes those of processes
// that were killed.
func makeStateDir(runtimeDir string) (string, error) {
	old, err := fs.Glob(os.DirFS(runtimeDir), statePrefix+"*")
	if err != nil {
		return "", err
	}
	for _, name := range old {
		pid, err := strconv.Atoi(strings.TrimPrefix(name, statePrefix))
		if err != nil {
			continue
		}
		if _, err := procid.Of(pid); pid == os.Getpid() || errors.Is(err, os.ErrProcessDone) {
			os.RemoveAll(filepath.Join(runtimeDir, name))
		}
	}
	dir := filepath.Join(runtimeDir, statePrefix+strconv.Itoa(os.Getpid()))
	if err := os.Mkdir(dir, 0o700); err != nil {
		return "", fmt.Errorf("cannot prepare to enter the user namespace: %w", err)
	}
	return dir, nil
}

// ExitError is the exit code of the namespaced process, which has already
// said on standard error why it ended.
type ExitError int

func (e ExitError) Error() string { return fmt.Sprintf("the keeper ended with exit code %d", int(e)) }

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
	logrus.SetLevel(logrus.ErrorLevel)
	err = child.Child(child.Opt{
		PipeFDEnvKey:              pipeEnv,
		RunActivationHelperEnvKey: helperEnv,
		ChildUseActivationEnvKey:  activationEnv,
		StateDirEnvKey:            stateDirEnv,
		TargetCmd:                 []string{noop, "noop"},
		Propagation:               "rslave",
		// After an evacuation RootlessKit would mount a cgroup hierarchy of
		// its own, which takes a cgroup namespace; the host's serves as well.
		EvacuateCgroup2: false,
	})
	if err != nil {
		return 0, explainChild(err)
	}
	if activated {
		if _, err := fmt.Sscan(os.Getenv("LISTEN_FDS"), &sockets); err != nil {
			return 0, fmt.Errorf("cannot take over systemd's sockets: LISTEN_FDS: %w", err)
		}
	}
	for _, name := range []string{pipeEnv, stateDirEnv, activationEnv, helperEnv, "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"} {
		os.Unsetenv(name)
	}
	return sockets, nil
}
