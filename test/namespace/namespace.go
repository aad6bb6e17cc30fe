// Package namespace runs a package's tests inside a user and mount namespace,
// where layers can be unpacked and mounted, whoever started them.
//
// It must not be used outside tests.
package namespace

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"go.podman.io/storage/pkg/reexec"
	"go.podman.io/storage/pkg/unshare"
	"golang.org/x/sys/unix"
)

const insideEnv = "KELP_TEST_INSIDE"

// Main is what TestMain calls: it runs the tests inside a new namespace whose
// root is the caller.
func Main(m *testing.M) {
	if reexec.Init() {
		os.Exit(0)
	}
	if os.Getuid() != 0 {
		unshare.MaybeReexecUsingUserNamespace(false) // returns inside only
	}
	if os.Getenv(insideEnv) != "" || os.Getenv(unshare.UsernsEnvName) != "" {
		useMemory()
		os.Exit(m.Run())
	}
	os.Exit(enterAsRoot())
}

// useMemory puts temporary directories on a tmpfs where it has what layers
// need, so that tests do not wait for the disk.
func useMemory() {
	const shm = "/dev/shm"
	dir, err := os.MkdirTemp(shm, "kelp-test-")
	if err != nil {
		return
	}
	defer os.Remove(dir)
	if os.Getenv("TMPDIR") == "" && unix.Setxattr(dir, "user.overlay.opaque", []byte("y"), 0) == nil {
		_ = os.Setenv("TMPDIR", shm)
	}
}

// enterAsRoot makes the namespace with the ids that an ordinary user has, so
// that nothing passes only because root runs it.
func enterAsRoot() int {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), insideEnv+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	ids := []syscall.SysProcIDMap{
		{ContainerID: 0, HostID: 0, Size: 1},
		{ContainerID: 1, HostID: 100000, Size: 65536},
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: ids, GidMappings: ids, GidMappingsEnableSetgroups: true,
		Pdeathsig: syscall.SIGKILL,
	}
	err := cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return exit.ExitCode()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "cannot enter a user namespace:", err)
		return 1
	}
	return 0
}
