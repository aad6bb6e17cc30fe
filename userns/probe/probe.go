// Package probe tries out, as the calling user and for `kelp doctor`, what
// kelp will need from the machine: user namespaces, the mapping of subordinate
// ids, mounts.
//
// It leaves nothing behind, and judges nothing.
package probe

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kelp-engine/kelp/userns/subid"
)

// stageEnv makes this program, re-executed in a namespace, a probe; its value
// says of what.
const stageEnv = "KELP_PROBE"

// Values of stageEnv.
const (
	stageMounts = "mounts" // try to mount, in the directory of the next argument
	stageWait   = "wait"   // do nothing until standard input ends
)

// timeout bounds one try.
const timeout = 20 * time.Second

// Mounts is what mounting in a user namespace came to; nil is success.
type Mounts struct {
	// Namespace is why the namespace could not be made. The others are then
	// unknown.
	Namespace error
	// Tmpfs is the simplest of mounts: what forbids it forbids all.
	Tmpfs error
	// Overlay is of the native overlay file system, with its upper layer in
	// the directory given.
	Overlay error
	// Proc is of /proc, in a PID namespace of its own.
	Proc error
}

// IsStage says whether this process was re-executed as a probe.
func IsStage() bool { return os.Getenv(stageEnv) != "" }

// Stage is the probe's re-executed process. It returns the exit code.
func Stage() int {
	if os.Getenv(stageEnv) == stageWait {
		_, _ = io.Copy(io.Discard, os.Stdin)
		return 0
	}
	dir := os.Args[len(os.Args)-1]
	result := map[string]string{}
	for name, try := range map[string]func(string) error{"tmpfs": tryTmpfs, "overlay": tryOverlay, "proc": tryProc} {
		if err := try(filepath.Join(dir, name)); err != nil {
			result[name] = err.Error()
		}
	}
	if err := json.NewEncoder(os.Stdout).Encode(result); err != nil {
		return 1
	}
	return 0
}

// TryMounts makes a user namespace with the caller's id alone, and mounts in
// it below dir, or when that cannot be written to, below a temporary one.
func TryMounts(ctx context.Context, dir string) Mounts {
	tmp, err := os.MkdirTemp(dir, ".doctor-")
	if err != nil {
		tmp, err = os.MkdirTemp("", "kelp-doctor-")
	}
	if err != nil {
		return Mounts{Namespace: err}
	}
	defer os.RemoveAll(tmp)
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	cmd := stage(ctx, stageMounts, tmp)
	cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWPID
	cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
	cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	out, err := cmd.Output()
	if err != nil {
		return Mounts{Namespace: err}
	}
	var result map[string]string
	if err := json.Unmarshal(out, &result); err != nil {
		return Mounts{Namespace: fmt.Errorf("cannot read the probe's answer: %w", err)}
	}
	failure := func(name string) error {
		if text := result[name]; text != "" {
			return errors.New(text)
		}
		return nil
	}
	return Mounts{Tmpfs: failure("tmpfs"), Overlay: failure("overlay"), Proc: failure("proc")}
}

func stage(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), stageEnv+"="+name)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		Pdeathsig:  syscall.SIGKILL,
	}
	return cmd
}

func tryTmpfs(dir string) error {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	return mount("tmpfs", dir, "tmpfs", "")
}

// tryOverlay also replaces and removes files of the lower layer: that is what
// some file systems cannot be an upper layer for.
func tryOverlay(dir string) error {
	for _, sub := range []string{"lower", "upper", "work", "merged", "lower/d"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
			return err
		}
	}
	for _, file := range []string{"lower/f", "lower/d/g"} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte("x"), 0o600); err != nil {
			return err
		}
	}
	merged := filepath.Join(dir, "merged")
	options := fmt.Sprintf("lowerdir=%[1]s/lower,upperdir=%[1]s/upper,workdir=%[1]s/work,userxattr", dir)
	if err := mount("overlay", merged, "overlay", options); err != nil {
		return err
	}
	// The kernel leaves a directory that only the namespace's root can remove.
	defer func() {
		_ = unix.Unmount(merged, unix.MNT_DETACH)
		os.RemoveAll(dir)
	}()
	if err := os.Remove(filepath.Join(merged, "f")); err != nil {
		return err
	}
	if err := os.RemoveAll(filepath.Join(merged, "d")); err != nil {
		return err
	}
	return os.Mkdir(filepath.Join(merged, "d"), 0o700) // opaque, by an extended attribute
}

func tryProc(dir string) error {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	return mount("proc", dir, "proc", "")
}

func mount(source, target, fstype, options string) error {
	if err := unix.Mount(source, target, fstype, 0, options); err != nil {
		return fmt.Errorf("mount %s: %w", fstype, err)
	}
	return nil
}

// TryMapping maps the ranges of subordinate ids into a user namespace with
// newuidmap and newgidmap, as kelp does when it starts.
func TryMapping(ctx context.Context, uids, gids []subid.Range) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	cmd := stage(ctx, stageWait)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	defer cmd.Wait() //nolint:errcheck // it has nothing to say
	defer stdin.Close()
	pid := strconv.Itoa(cmd.Process.Pid)
	if err := mapIDs(ctx, "newuidmap", pid, os.Getuid(), uids); err != nil {
		return err
	}
	return mapIDs(ctx, "newgidmap", pid, os.Getgid(), gids)
}

func mapIDs(ctx context.Context, program, pid string, own int, ranges []subid.Range) error {
	args := []string{pid, "0", strconv.Itoa(own), "1"}
	next := uint64(1)
	for _, r := range ranges {
		args = append(args, strconv.FormatUint(next, 10), strconv.FormatUint(uint64(r.Start), 10), strconv.FormatUint(uint64(r.Count), 10))
		next += uint64(r.Count)
	}
	out, err := exec.CommandContext(ctx, program, args...).CombinedOutput()
	if err != nil {
		if said := bytes.TrimSpace(out); len(said) > 0 {
			return fmt.Errorf("%s", said)
		}
		return fmt.Errorf("%s: %w", program, err)
	}
	return nil
}
