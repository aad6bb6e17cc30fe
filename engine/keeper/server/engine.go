package server

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"github.com/kelp-engine/kelp/engine/fault"
)

// Pauses before an engine that ended is started again.
const (
	firstPause   = 20 * time.Millisecond
	longestPause = 10 * time.Second
	// steady is how long an engine has to live for the pause to begin anew.
	steady = 30 * time.Second
)

// supervisor keeps one engine process running.
type supervisor struct {
	argv   []string
	env    []string
	listen *os.File // the Engine API's listening socket, the engine's fd 3

	mu      sync.Mutex
	process *os.Process // nil while none runs
}

func (s *supervisor) pid() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process == nil {
		return 0
	}
	return s.process.Pid
}

// restart ends the engine process; run starts the next one.
func (s *supervisor) restart() error {
	return s.signal(syscall.SIGKILL)
}

func (s *supervisor) signal(sig syscall.Signal) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process == nil {
		return fault.Unavailable("no engine runs at the moment")
	}
	return s.process.Signal(sig)
}

// run starts the engine, again and again, until ctx ends. Then it asks the
// engine to stop all containers and returns when it has ended, killing it
// after grace.
func (s *supervisor) run(ctx context.Context, grace time.Duration) {
	pause := firstPause
	for {
		begun := time.Now()
		err := s.once(ctx, grace)
		if ctx.Err() != nil {
			return
		}
		if time.Since(begun) > steady {
			pause = firstPause
		}
		slog.Warn("the engine ended; starting it again", "error", err, "pause", pause)
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		pause = min(pause*4, longestPause)
	}
}

// once runs one engine process to its end.
func (s *supervisor) once(ctx context.Context, grace time.Duration) error {
	cmd := exec.Command(s.argv[0], s.argv[1:]...)
	cmd.Env = append(os.Environ(), s.env...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.ExtraFiles = []*os.File{s.listen}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Setpgid:   true,            // a terminal's ^C goes to the keeper alone
		Pdeathsig: syscall.SIGKILL, // an engine without a keeper could do nothing but hold the socket
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("cannot start the engine: %w", err)
	}
	s.setProcess(cmd.Process)
	defer s.setProcess(nil)

	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	if err := s.signal(syscall.SIGTERM); err != nil {
		slog.Warn("cannot ask the engine to stop", "error", err)
	}
	select {
	case err := <-ended:
		return err
	case <-time.After(grace):
		slog.Warn("the engine did not stop in time and is killed", "grace", grace)
		_ = s.signal(syscall.SIGKILL)
		return <-ended
	}
}

func (s *supervisor) setProcess(p *os.Process) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.process = p
}
