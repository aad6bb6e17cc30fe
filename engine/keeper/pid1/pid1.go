// Package pid1 is the program that `docker run --init` puts in front of a
// container's command: it passes signals on to the command, waits for every
// process that loses its parent, and ends as the command ends.
//
// It runs inside the container and must not import anything large: it is part
// of the keeper's program.
package pid1

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// Name is the base name that the program is executed by.
const Name = "docker-init"

// Exit codes for a command that cannot be run, as shells have them.
const (
	notExecutable = 126
	notFound      = 127
)

// Is says whether a command line is this program's.
func Is(args []string) bool { return len(args) > 0 && filepath.Base(args[0]) == Name }

// Run runs the command in args, after an optional "--", and returns its exit
// code: 128+N when signal N ended it.
func Run(args []string) int {
	args = args[1:]
	if len(args) > 0 && args[0] == "--" {
		args = args[1:]
	}
	if len(args) == 0 {
		fmt.Fprintln(os.Stderr, "docker-init: no command")
		return notFound
	}
	// Signals are taken before the command starts, so that none is lost.
	signals := make(chan os.Signal, 64)
	signal.Notify(signals)
	pid, err := start(args)
	if err != nil {
		fmt.Fprintf(os.Stderr, "docker-init: cannot run %s: %v\n", args[0], err)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, exec.ErrNotFound) {
			return notFound
		}
		return notExecutable
	}
	for sig := range signals {
		switch sig {
		case unix.SIGCHLD:
			if code, ended := reap(pid); ended {
				return code
			}
		case unix.SIGURG: // the Go runtime's own
		default:
			_ = unix.Kill(pid, sig.(syscall.Signal)) // it may have ended: the next SIGCHLD tells
		}
	}
	return 0 // signals is never closed
}

// start runs the command in a process group of its own, in the foreground of
// the terminal if there is one, so that the terminal's signals reach it once.
func start(args []string) (pid int, err error) {
	path, err := exec.LookPath(args[0])
	if err != nil {
		return 0, err
	}
	attr := &syscall.SysProcAttr{Setpgid: true}
	if _, err := unix.IoctlGetTermios(0, unix.TCGETS); err == nil {
		attr.Foreground, attr.Ctty = true, 0
	}
	return syscall.ForkExec(path, args, &syscall.ProcAttr{
		Env:   os.Environ(),
		Files: []uintptr{0, 1, 2},
		Sys:   attr,
	})
}

// reap collects every process that has ended and says whether the command is
// one of them.
func reap(command int) (code int, ended bool) {
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, unix.WNOHANG, nil)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil || pid <= 0:
			return code, ended
		case pid != command:
		case status.Signaled():
			code, ended = 128+int(status.Signal()), true
		case status.Exited():
			code, ended = status.ExitStatus(), true
		}
	}
}
