package server

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/kelp-engine/kelp/engine/fault"
	"github.com/kelp-engine/kelp/engine/keeper"
)

// Pauses before an engine that ended is started again.
const (
	firstPause   = 20 * time.Millisecond
	longestPause = 10 * time.Second // after an engine that lived longer, they begin anew
)

// firstStarts is how many engines may end without a word at the keeper's
// start; one that gives a reason is not tried again.
const firstStarts = 5

// defaultGrace is how long the engine may take to stop all containers at
// shutdown.
const defaultGrace = 60 * time.Second

// supervisor keeps one engine process running.
type supervisor struct {
	environ []string // the keeper's, to which the engine's own is added
	listen  *os.File // the Engine API's listening socket
	// firstReady is called when the first engine serves.
	firstReady func()

	mu       sync.Mutex
	engine   command
	proven   *command       // to go back to when engine, which is new, cannot start
	refusal  error          // why it could not, since the last restart
	starts   int            // of engine processes; the last one's number
	calls    sync.WaitGroup // of that engine, under way
	launched int            // the number of the last one whose command was taken
	doomed   int            // the number of the last one that restart ends
	process  *os.Process    // nil while none runs
	ready    bool           // process serves
	startErr error          // why the last engine ended without ever serving; nil while one starts
	changed  chan struct{}  // closed at the next change of ready or startErr
	served   bool           // an engine did at some time
	stopping bool
	grace    time.Duration
}

// command is what an engine is started by.
type command struct{ argv, env []string }

// newSupervisor returns a supervisor of engines with the environment that the
// keeper has now; runtime.New changes it.
func newSupervisor(cfg keeper.Config, listen *os.File, firstReady func()) *supervisor {
	return &supervisor{
		environ: os.Environ(), engine: command{cfg.Engine, cfg.EngineEnv}, listen: listen, firstReady: firstReady,
		changed: make(chan struct{}), grace: defaultGrace,
	}
}

// describe fills in what a hello says of the engine.
func (s *supervisor) describe(h *keeper.Hello) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h.EngineReady, h.Stopping = s.ready, s.stopping
	if s.process != nil {
		h.EnginePID = s.process.Pid
	}
	if s.startErr != nil {
		h.EngineError = s.startErr.Error()
	}
}

// wait returns when the engine serves, or why it could not be started.
func (s *supervisor) wait(ctx context.Context) error {
	for {
		s.mu.Lock()
		ready, err, changed := s.ready, s.startErr, s.changed
		s.mu.Unlock()
		if ready || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
}

// set wakes up those who wait. first says that this is the first engine that
// serves.
func (s *supervisor) set(ready bool, startErr error) (first bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ready, s.startErr = ready, startErr
	switch {
	case ready:
		s.proven = nil
	case startErr != nil && s.proven != nil:
		s.engine, s.proven, s.refusal = *s.proven, nil, startErr
	}
	first = ready && !s.served
	s.served = s.served || ready
	close(s.changed)
	s.changed = make(chan struct{})
	return first
}

// wasAsked says whether the engine that ended was asked to.
func (s *supervisor) wasAsked() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.doomed == s.launched
}

// begin gives the turn to the next engine, when all is over that the last one
// had asked for: it must find what became of that.
func (s *supervisor) begin() {
	s.mu.Lock()
	s.starts++
	s.mu.Unlock()
	s.set(false, nil)
	s.calls.Wait()
}

// enter begins a call of the engine with the number, 0 for other programs.
func (s *supervisor) enter(engine int) (leave func(), err error) {
	if engine == 0 {
		return func() {}, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if engine != s.starts {
		return nil, fault.Unavailable("the engine that asks has ended")
	}
	s.calls.Add(1)
	return s.calls.Done, nil
}

func (s *supervisor) hasServed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.served
}

// setGrace bounds the shutdown to come.
func (s *supervisor) setGrace(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.grace = d
}

// restart ends the engine process, upon which run starts the next one, and
// returns when that serves. One that cannot is the last of its kind.
func (s *supervisor) restart(ctx context.Context, r keeper.RestartRequest) error {
	s.mu.Lock()
	if s.stopping {
		s.mu.Unlock()
		return fault.Unavailable("kelp is stopping")
	}
	if len(r.Engine) > 0 {
		if s.proven == nil {
			old := s.engine
			s.proven = &old
		}
		s.engine = command{r.Engine, r.EngineEnv}
	}
	before := s.launched
	s.refusal, s.doomed = nil, before
	if s.process != nil {
		_ = s.process.Kill() // it may have ended this moment
	}
	s.mu.Unlock()
	for {
		s.mu.Lock()
		started, ready, err, changed := s.launched > before, s.ready, cmp.Or(s.refusal, s.startErr), s.changed
		s.mu.Unlock()
		if started && (ready || err != nil) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
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
// after the grace. An engine that cannot be started to begin with is an error.
func (s *supervisor) run(ctx context.Context) error {
	// The kernel kills the engine when the thread that started it ends.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	context.AfterFunc(ctx, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.stopping = true
	})
	pause := firstPause
	for starts := 1; ; starts++ {
		begun := time.Now()
		reported, err := s.runOne(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if !s.hasServed() && (reported || starts == firstStarts) {
			return fault.Unavailable("the engine cannot start: %w", err)
		}
		if time.Since(begun) > longestPause || s.wasAsked() {
			pause = firstPause
		}
		slog.Warn("the engine ended; starting it again", "error", err, "pause", pause)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
		pause = min(pause*4, longestPause)
	}
}

// runOne runs one engine process to its end and returns why it ended;
// reported says that the engine itself gave the reason for not serving.
func (s *supervisor) runOne(ctx context.Context) (reported bool, err error) {
	s.begin()
	cmd, report, err := s.start()
	if err != nil {
		s.set(false, err)
		return true, err
	}
	ended := make(chan error, 1)
	go func() {
		err := cmd.Wait()
		if cause := <-report; cause != nil {
			reported, err = true, cause
		}
		ended <- err
	}()
	select {
	case err = <-ended:
	case <-ctx.Done():
		err = s.stopEngine(ended)
	}
	s.mu.Lock()
	s.process = nil
	refused := !s.ready && s.doomed != s.launched
	s.mu.Unlock()
	if err == nil {
		err = fault.Internal("it ended without being told to")
	}
	if refused {
		s.set(false, err)
	} else {
		s.set(false, nil)
	}
	return reported, err
}

// start starts an engine process. report gets why it cannot serve, or nil,
// and is then closed.
func (s *supervisor) start() (cmd *exec.Cmd, report <-chan error, err error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	defer w.Close()
	s.mu.Lock()
	engine, number := s.engine, s.starts
	s.launched = number
	s.mu.Unlock()
	cmd = exec.Command(engine.argv[0], engine.argv[1:]...)
	cmd.Env = slices.Concat(s.environ, engine.env, []string{fmt.Sprintf("%s=%d", keeper.EngineNumberEnv, number)})
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.ExtraFiles = []*os.File{s.listen, w} // from EngineListenFD on
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Setpgid:   true,            // a terminal's ^C goes to the keeper alone
		Pdeathsig: syscall.SIGKILL, // an engine without a keeper could do nothing but hold the socket
	}
	if err := cmd.Start(); err != nil {
		r.Close()
		return nil, nil, fmt.Errorf("cannot execute it: %w", err)
	}
	s.mu.Lock()
	s.process = cmd.Process
	if s.doomed == number { // while it was being started
		_ = s.process.Kill()
	}
	s.mu.Unlock()
	c := make(chan error, 1)
	go func() {
		defer close(c)
		defer r.Close()
		c <- s.readReport(r)
	}()
	return cmd, c, nil
}

// readReport waits for the engine's report and returns the error in it. An
// engine that ends without a report is none here: its exit status tells more.
func (s *supervisor) readReport(r io.Reader) error {
	var report keeper.EngineReport
	if err := json.NewDecoder(r).Decode(&report); err != nil {
		return nil
	}
	if report.Error == nil && s.set(true, nil) {
		s.firstReady()
	}
	return report.Error.Err()
}

// stopEngine asks the engine to stop all containers and to end.
func (s *supervisor) stopEngine(ended <-chan error) error {
	s.mu.Lock()
	grace := s.grace
	s.mu.Unlock()
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
