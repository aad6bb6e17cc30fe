package cmd

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"golang.org/x/term"
)

// Exit codes of shells for commands that cannot be run.
const (
	notExecutable = 126
	notFound      = 127
	signalled     = 128 // and the signal's number
)

// runCommand runs a command as if it had been run without kelp: with its exit
// code, its terminal, and signals passed on.
func runCommand(args, env []string) error {
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = env
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2)
	defer signal.Stop(signals)
	if err := cmd.Start(); err != nil {
		return notRunnable(args[0], err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	byTerminal := term.IsTerminal(int(os.Stdin.Fd()))
	for {
		select {
		case s := <-signals:
			if byTerminal && (s == syscall.SIGINT || s == syscall.SIGQUIT) {
				continue // the terminal has sent it to the command as well
			}
			_ = cmd.Process.Signal(s)
		case err := <-ended:
			return exitOf(cmd, err)
		}
	}
}

func exitOf(cmd *exec.Cmd, err error) error {
	status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus)
	switch {
	case ok && status.Signaled():
		return exitCode(signalled + int(status.Signal()))
	case cmd.ProcessState.ExitCode() > 0:
		return exitCode(cmd.ProcessState.ExitCode())
	}
	return err
}

// notRunnable says why a command cannot be run, and ends with a shell's exit
// code for that.
func notRunnable(name string, err error) error {
	fmt.Fprintf(os.Stderr, "kelp: cannot run %s: %v\n", name, err)
	if errors.Is(err, exec.ErrNotFound) || errors.Is(err, os.ErrNotExist) {
		return exitCode(notFound)
	}
	return exitCode(notExecutable)
}
