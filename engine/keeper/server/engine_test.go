package server

import (
	"context"
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/kelp-engine/kelp/engine/keeper"
)

// supervise runs a shell script as the engine; ended gets what run returns.
func supervise(t *testing.T, script string) (s *supervisor, ready chan struct{}, ended chan error, stop context.CancelFunc) {
	t.Helper()
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { null.Close() })
	ready, ended = make(chan struct{}), make(chan error, 1)
	s = newSupervisor(keeper.Config{Engine: []string{"/bin/sh", "-c", script}}, null, func() { close(ready) })
	ctx, stop := context.WithCancel(t.Context())
	go func() { ended <- s.run(ctx) }()
	t.Cleanup(stop)
	return s, ready, ended, stop
}

// pid of the engine that runs, 0 for none.
func (s *supervisor) pid() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process == nil {
		return 0
	}
	return s.process.Pid
}

const (
	sayReady = `echo '{}' >&4; exec 4>&-; `
	sayError = `echo '{"error":{"class":"unavailable","message":"the disk is on fire"}}' >&4; exit 1`
)

func TestSupervisorOfEngineThatCannotStart(t *testing.T) {
	tests := []struct{ name, script, want string }{
		{"it says why", sayError, "the disk is on fire"},
		{"it says nothing", "exit 7", "exit status 7"},
		{"it says nonsense", "echo nonsense >&4; exit 3", "exit status 3"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, _, ended, _ := supervise(t, tt.script)
			if err := s.wait(t.Context()); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("those who wait get %v, want %q", err, tt.want)
			}
			select {
			case err := <-ended:
				if err == nil || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("run returned %v, want %q", err, tt.want)
				}
			case <-time.After(time.Minute):
				t.Fatal("the supervisor goes on for ever")
			}
		})
	}
}

func TestSupervisorRestartsWhatHasServed(t *testing.T) {
	s, ready, ended, stop := supervise(t, sayReady+"exec sleep 60")
	if err := s.wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	<-ready
	first := s.pid()
	if err := s.restart(t.Context(), keeper.RestartRequest{}); err != nil {
		t.Fatal(err)
	}
	for s.pid() == first || s.pid() == 0 {
		time.Sleep(time.Millisecond)
	}
	if err := s.wait(t.Context()); err != nil {
		t.Errorf("after the engine's death: %v", err)
	}
	stop()
	if err := <-ended; err != nil {
		t.Errorf("at shutdown: %v", err)
	}
	if s.pid() != 0 {
		t.Error("an engine is left")
	}
}

func TestSupervisorKillsAfterGrace(t *testing.T) {
	s, ready, ended, stop := supervise(t, "trap '' TERM; "+sayReady+"while :; do sleep 1; done")
	<-ready
	pid := s.pid()
	s.setGrace(50 * time.Millisecond)
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if err := syscall.Kill(pid, 0); err != syscall.ESRCH {
		t.Errorf("the engine that ignores SIGTERM: %v", err)
	}
}

func TestSupervisorReplacesTheEngine(t *testing.T) {
	dir := t.TempDir()
	engine := func(name string) string { return "echo $NAME >" + dir + "/" + name + "; " + sayReady + "exec sleep 60" }
	s, ready, _, _ := supervise(t, engine("old"))
	<-ready
	if err := s.restart(t.Context(), keeper.RestartRequest{Engine: []string{"/bin/sh", "-c", engine("new")}, EngineEnv: []string{"NAME=new"}}); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(dir + "/new"); err != nil || string(got) != "new\n" {
		t.Errorf("the new engine's environment: %q, %v", got, err)
	}
	for _, bad := range [][]string{{"/bin/sh", "-c", sayError}, {"/nowhere/kelp"}} {
		if err := os.Remove(dir + "/new"); err != nil {
			t.Fatal(err)
		}
		if err := s.restart(t.Context(), keeper.RestartRequest{Engine: bad}); err == nil || !strings.Contains(err.Error(), "on fire") && !strings.Contains(err.Error(), "no such file") {
			t.Errorf("an engine that cannot start: %v", err)
		}
		for s.wait(t.Context()) != nil {
			time.Sleep(time.Millisecond)
		}
		if _, err := os.Stat(dir + "/new"); err != nil {
			t.Errorf("the engine that was there before does not serve again: %v", err)
		}
	}
}

// What an engine has asked for is over before the next one starts, and what
// the keeper reads of it later is refused.
func TestEnginesTakeTurns(t *testing.T) {
	dir := t.TempDir()
	s, ready, _, _ := supervise(t, "echo $"+keeper.EngineNumberEnv+" >>"+dir+"/numbers; "+sayReady+"exec sleep 60")
	<-ready
	k := &Server{engine: s}
	asked, over := make(chan struct{}), make(chan struct{})
	k.ops = map[string]op{
		"slow": func(context.Context, *call) (any, error) { close(asked); <-over; return "done", nil },
		"ask":  func(context.Context, *call) (any, error) { return "done", nil },
	}
	slow := make(chan error, 1)
	go func() {
		_, err := k.dispatch(t.Context(), keeper.Request{Op: "slow", Engine: 1}, &call{})
		slow <- err
	}()
	<-asked
	restarted := make(chan error, 1)
	go func() { restarted <- s.restart(t.Context(), keeper.RestartRequest{}) }()
	ask := func(engine int) error {
		_, err := k.dispatch(t.Context(), keeper.Request{Op: "ask", Engine: engine}, &call{})
		return err
	}
	for ask(1) == nil { // the first engine's turn is not over yet
		time.Sleep(time.Millisecond)
	}
	if err := ask(0); err != nil {
		t.Errorf("another program asks: %v", err)
	}
	if numbers, _ := os.ReadFile(dir + "/numbers"); string(numbers) != "1\n" || s.pid() != 0 {
		t.Errorf("engines %q were started, process %d runs, while the first one's call is under way", numbers, s.pid())
	}
	close(over)
	if err := errors.Join(<-slow, <-restarted); err != nil {
		t.Error(err)
	}
	if numbers, _ := os.ReadFile(dir + "/numbers"); string(numbers) != "1\n2\n" {
		t.Errorf("engines %q were started, want 1 and 2", numbers)
	}
	if err := ask(1); !errdefs.IsUnavailable(err) {
		t.Errorf("what the first engine had asked for: %v", err)
	}
	if err := ask(2); err != nil {
		t.Errorf("the second engine asks: %v", err)
	}
}

// A restart that is asked for while another engine is on its way is carried
// out: when that waits for what the last one had asked for, and when it does not
// serve yet.
func TestRestartBetweenEngines(t *testing.T) {
	dir := t.TempDir()
	engine := func(name string) []string {
		return []string{"/bin/sh", "-c", "echo " + name + " >>" + dir + "/started; " + sayReady + "exec sleep 60"}
	}
	s, ready, _, _ := supervise(t, engine("old")[2])
	<-ready
	leave, err := s.enter(1)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for begun := 1; begun == 1; { // until the next engine's turn has come
		time.Sleep(time.Millisecond)
		s.mu.Lock()
		begun = s.starts
		s.mu.Unlock()
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	restarted := make(chan error, 1)
	go func() { restarted <- s.restart(ctx, keeper.RestartRequest{Engine: engine("new")}) }()
	for asked := false; !asked; {
		s.mu.Lock()
		asked = s.proven != nil
		s.mu.Unlock()
	}
	leave()
	if err := <-restarted; err != nil {
		t.Fatal(err)
	}
	if started, _ := os.ReadFile(dir + "/started"); string(started) != "old\nnew\n" {
		t.Errorf("started were %q", started)
	}

	// An engine that starts, but does not serve yet, gives way to the one that
	// is asked for meanwhile.
	slow := []string{"/bin/sh", "-c", "echo slow >>" + dir + "/started; exec sleep 60"}
	go s.restart(ctx, keeper.RestartRequest{Engine: slow})
	for started := ""; !strings.HasSuffix(started, "slow\n"); {
		time.Sleep(time.Millisecond)
		b, _ := os.ReadFile(dir + "/started")
		started = string(b)
	}
	if err := s.restart(ctx, keeper.RestartRequest{Engine: engine("newest")}); err != nil {
		t.Fatal(err)
	}
	if started, _ := os.ReadFile(dir + "/started"); !strings.HasSuffix(string(started), "slow\nnewest\n") {
		t.Errorf("started were %q", started)
	}
}
