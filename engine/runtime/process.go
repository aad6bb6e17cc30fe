package runtime

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runc/libcontainer"
	"github.com/opencontainers/runc/libcontainer/configs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/kelp-engine/kelp/engine/fault"
	"github.com/kelp-engine/kelp/userns/procstat"
)

// IO are the files that a process gets as its standard streams: three of
// them, or Console, a socket over which the master of its new terminal comes.
// They stay the caller's to close.
type IO struct {
	Stdin, Stdout, Stderr *os.File
	Console               *os.File
	Height, Width         uint16 // of the terminal; 0 leaves the kernel's
}

// Process is a process that was started in a container.
type Process struct {
	PID       int
	StartTime uint64 // clock ticks since boot; with PID it names the process for good

	p     *libcontainer.Process
	pidfd *os.File // nil where the kernel has none
	spent *times   // where its processor time is counted when it has ended
}

// warnings is the level, in logrus's numbers, of what a process tells of its
// start; each line wakes the keeper.
const warnings = "3"

// newProcess makes libcontainer's process of a spec.
func newProcess(spec *specs.Process, io IO) (*libcontainer.Process, error) {
	if len(spec.Args) == 0 {
		return nil, fault.InvalidArgument("no command specified")
	}
	p := &libcontainer.Process{
		Args:            spec.Args,
		Env:             spec.Env,
		UID:             int(spec.User.UID),
		GID:             int(spec.User.GID),
		Cwd:             spec.Cwd,
		Label:           spec.SelinuxLabel,
		NoNewPrivileges: &spec.NoNewPrivileges,
		AppArmorProfile: spec.ApparmorProfile,
		Scheduler:       spec.Scheduler,
		IOPriority:      spec.IOPriority,
		ConsoleSocket:   io.Console,
		ConsoleHeight:   io.Height,
		ConsoleWidth:    io.Width,
		LogLevel:        warnings,
	}
	if io.Console == nil {
		p.Stdin, p.Stdout, p.Stderr = io.Stdin, io.Stdout, io.Stderr
	}
	for _, gid := range spec.User.AdditionalGids {
		p.AdditionalGroups = append(p.AdditionalGroups, int(gid))
	}
	if c := spec.Capabilities; c != nil {
		p.Capabilities = &configs.Capabilities{
			Bounding: c.Bounding, Effective: c.Effective, Inheritable: c.Inheritable,
			Permitted: c.Permitted, Ambient: c.Ambient,
		}
	}
	for _, limit := range spec.Rlimits {
		r, err := rlimit(limit)
		if err != nil {
			return nil, err
		}
		p.Rlimits = append(p.Rlimits, r)
	}
	return p, nil
}

// identify takes down who a process is that has just been started.
func identify(process *libcontainer.Process) (*Process, error) {
	pid, err := process.Pid()
	if err != nil {
		return nil, err
	}
	p := &Process{PID: pid, p: process}
	s, err := procstat.Read(pid)
	if p.StartTime = s.StartTime; err != nil {
		// It is our child and not waited for: only a kernel without /proc
		// gets here.
		_ = process.Signal(unix.SIGKILL)
		_, _ = process.Wait()
		return nil, err
	}
	if fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK); err == nil {
		p.pidfd = os.NewFile(uintptr(fd), "pidfd")
	}
	return p, nil
}

// Wait waits for the process to end and returns its exit code: 128+N when
// signal N ended it.
//
// Preconditions: it is called once.
func (p *Process) Wait() (int, error) {
	p.awaitExit()
	state, err := p.p.Wait()
	if state == nil {
		return 0, fmt.Errorf("cannot wait for process %d: %w", p.PID, err)
	}
	if p.spent != nil {
		p.spent.add(state.UserTime(), state.SystemTime())
	}
	status, ok := state.Sys().(syscall.WaitStatus)
	if !ok {
		return 0, fmt.Errorf("process %d has no wait status", p.PID)
	}
	if status.Signaled() {
		return 128 + int(status.Signal()), nil
	}
	return status.ExitStatus(), nil
}

// awaitExit returns when the process has ended, without a thread of its own
// that blocks in the kernel for as long as the process lives.
func (p *Process) awaitExit() {
	if p.pidfd == nil {
		return
	}
	defer p.pidfd.Close()
	raw, err := p.pidfd.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Read(func(fd uintptr) bool {
		poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(poll, 0)
		return n > 0 || (err != nil && !errors.Is(err, unix.EINTR))
	})
}

// Signal sends a signal to the process. One that has ended is
// errdefs.ErrNotFound.
func (p *Process) Signal(sig unix.Signal) error {
	err := p.p.Signal(sig)
	if errors.Is(err, os.ErrProcessDone) || errors.Is(err, unix.ESRCH) {
		return fault.NotFound("process %d has ended", p.PID)
	}
	if err != nil {
		return fmt.Errorf("cannot send signal %d to process %d: %w", sig, p.PID, err)
	}
	return nil
}

// Kill ends the process and waits for it.
func (p *Process) Kill() (int, error) {
	if err := p.Signal(unix.SIGKILL); err != nil && !errors.Is(err, errdefs.ErrNotFound) {
		return 0, err
	}
	return p.Wait()
}

// startNoise is what libcontainer puts before the cause of a failed start.
var startNoise = strings.NewReplacer(
	"unable to start container process: ", "",
	"error during container init: ", "",
	"error starting setns process: ", "",
	"error executing setns process: ", "",
)

// explainStart says why a process could not be started, and gives the failures
// that are the user's to mend their class.
func explainStart(err error) error {
	text := startNoise.Replace(err.Error())
	for _, s := range []string{
		"executable file not found in $PATH", "no such file or directory", "permission denied",
		"not a directory", "is a directory", "exec format error",
	} {
		if strings.Contains(text, s) {
			return fault.InvalidArgument("%s", text)
		}
	}
	return fault.Internal("%s", text)
}

var rlimits = map[string]int{
	"RLIMIT_AS": unix.RLIMIT_AS, "RLIMIT_CORE": unix.RLIMIT_CORE, "RLIMIT_CPU": unix.RLIMIT_CPU,
	"RLIMIT_DATA": unix.RLIMIT_DATA, "RLIMIT_FSIZE": unix.RLIMIT_FSIZE, "RLIMIT_LOCKS": unix.RLIMIT_LOCKS,
	"RLIMIT_MEMLOCK": unix.RLIMIT_MEMLOCK, "RLIMIT_MSGQUEUE": unix.RLIMIT_MSGQUEUE, "RLIMIT_NICE": unix.RLIMIT_NICE,
	"RLIMIT_NOFILE": unix.RLIMIT_NOFILE, "RLIMIT_NPROC": unix.RLIMIT_NPROC, "RLIMIT_RSS": unix.RLIMIT_RSS,
	"RLIMIT_RTPRIO": unix.RLIMIT_RTPRIO, "RLIMIT_RTTIME": unix.RLIMIT_RTTIME,
	"RLIMIT_SIGPENDING": unix.RLIMIT_SIGPENDING, "RLIMIT_STACK": unix.RLIMIT_STACK,
}

func rlimit(r specs.POSIXRlimit) (configs.Rlimit, error) {
	kind, ok := rlimits[r.Type]
	if !ok {
		return configs.Rlimit{}, fault.InvalidArgument("unknown resource limit %q", r.Type)
	}
	return configs.Rlimit{Type: kind, Hard: r.Hard, Soft: r.Soft}, nil
}
