package exec

import (
	"context"
	"errors"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"

	"github.com/kelp-engine/kelp/engine/fault"
	"github.com/kelp-engine/kelp/engine/keeper"
)

// fake is one container and its keeper.
type fake struct {
	mu     sync.Mutex
	state  container.ContainerState
	events []string
	tasks  map[string]keeper.Task
	fail   error // of Exec
	ended  func(keeper.AttachResult, error)
	exits  chan keeper.Task
}

func newFake() *fake {
	return &fake{state: container.StateRunning, tasks: map[string]keeper.Task{}, exits: make(chan keeper.Task)}
}

func (f *fake) Lookup(ref string) (Container, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if ref != "c1" || f.state == "" {
		return Container{}, fault.NotFound("No such container: %s", ref)
	}
	return Container{ID: "c1", State: f.state, PID: os.Getpid(), Config: &container.Config{}, HostConfig: &container.HostConfig{}}, nil
}

func (f *fake) PublishOf(_ string, action events.Action, attrs ...string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	text := string(action)
	if len(attrs) > 2 {
		text += " " + attrs[3]
	}
	f.events = append(f.events, text)
}

func (f *fake) Exec(_ context.Context, r keeper.ExecRequest, _ *os.File, ended func(keeper.AttachResult, error)) (keeper.Started, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fail != nil {
		return keeper.Started{}, f.fail
	}
	s := keeper.Started{PID: 42}
	f.tasks[r.Exec] = keeper.Task{Ref: r.Ref, Started: s, Status: keeper.Running}
	f.ended = ended
	return s, nil
}

func (f *fake) Resize(context.Context, keeper.Ref, uint16, uint16) error { return nil }

func (f *fake) Task(_ context.Context, ref keeper.Ref) (keeper.Task, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	t, ok := f.tasks[ref.Exec]
	if !ok {
		return t, fault.NotFound("no exec")
	}
	return t, nil
}

func (f *fake) Watch(ctx context.Context, each func(keeper.Task) error) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case t := <-f.exits:
			if err := each(t); err != nil {
				return err
			}
		}
	}
}

func (f *fake) Forget(_ context.Context, ref keeper.Ref) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.tasks, ref.Exec)
	return nil
}

// exit ends an exec; only those who ask know until it is told.
func (f *fake) exit(id string, code int) keeper.Task {
	f.mu.Lock()
	defer f.mu.Unlock()
	t := f.tasks[id]
	t.Status, t.ExitCode, t.ExitedAt = keeper.Exited, code, time.Now()
	f.tasks[id] = t
	return t
}

func (f *fake) seen() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return strings.Join(f.events, ", ")
}

func newManager(t *testing.T, f *fake, dir string) *Manager {
	t.Helper()
	m, err := New(Options{Dir: dir, Containers: f, Processes: f})
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Recover(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	return m
}

func create(t *testing.T, m *Manager) string {
	t.Helper()
	id, err := m.Create("c1", container.ExecCreateRequest{Cmd: []string{"true", "a"}, User: "0"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func start(t *testing.T, m *Manager, id string) {
	t.Helper()
	s, err := m.Begin(id, container.ExecStartRequest{})
	if err == nil {
		err = s.Run(t.Context(), os.Stdin, false, nil)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func inspect(t *testing.T, m *Manager, id string) string {
	t.Helper()
	r, err := m.Inspect(t.Context(), id)
	switch {
	case err != nil:
		t.Fatal(err)
	case r.Running:
		return "running"
	case r.ExitCode == nil:
		return "created"
	}
	return "exited " + strconv.Itoa(*r.ExitCode)
}

func TestLife(t *testing.T) {
	f := newFake()
	m := newManager(t, f, t.TempDir())
	id := create(t, m)
	if got := inspect(t, m, id); got != "created" {
		t.Errorf("before the start: %s", got)
	}
	start(t, m, id)
	if got := inspect(t, m, id); got != "running" || len(m.Of("c1")) != 1 {
		t.Errorf("after the start: %s, %v", got, m.Of("c1"))
	}
	if _, err := m.Begin(id, container.ExecStartRequest{}); !errdefs.IsConflict(err) {
		t.Errorf("a second start: %v", err)
	}
	f.exit(id, 3)
	if got := inspect(t, m, id); got != "exited 3" || len(m.Of("c1")) != 0 {
		t.Errorf("after the end, which nobody told of: %s, %v", got, m.Of("c1"))
	}
	if _, err := m.Begin(id, container.ExecStartRequest{}); !errdefs.IsConflict(err) {
		t.Errorf("a start after the end: %v", err)
	}
	if _, err := f.Task(t.Context(), keeper.Ref{Exec: id}); err == nil {
		t.Error("the keeper was not told to forget")
	}
	f.ended(keeper.AttachResult{Detached: true}, nil)
	if got, want := f.seen(), "exec_create: true a, exec_start: true a, exec_die 3, exec_detach"; got != want {
		t.Errorf("events %q, want %q", got, want)
	}
}

func TestTold(t *testing.T) {
	f := newFake()
	m := newManager(t, f, t.TempDir())
	id := create(t, m)
	start(t, m, id)
	task := f.exit(id, 4)
	f.exits <- task
	f.exits <- keeper.Task{Ref: keeper.Ref{Container: "c1", Exec: "a-health-check"}, Status: keeper.Exited}
	if got := inspect(t, m, id); got != "exited 4" {
		t.Errorf("after the end was told: %s", got)
	}
	f.exits <- task
	if got := strings.Count(f.seen(), "exec_die"); got != 1 {
		t.Errorf("%d ends", got)
	}
}

func TestStartFails(t *testing.T) {
	for text, code := range map[string]string{
		`cannot start the process: exec: "x": executable file not found in $PATH`: "exited 127",
		"cannot start the process: permission denied":                             "exited 126",
	} {
		f := newFake()
		m := newManager(t, f, t.TempDir())
		id := create(t, m)
		f.fail = fault.InvalidArgument("%s", text)
		s, err := m.Begin(id, container.ExecStartRequest{})
		if err != nil {
			t.Fatal(err)
		}
		err = s.Run(t.Context(), nil, false, nil)
		if !errdefs.IsInvalidArgument(err) || !strings.HasPrefix(err.Error(), "OCI runtime exec failed: exec failed: unable to start container process: ") {
			t.Errorf("%s: became %v", text, err)
		}
		if got := inspect(t, m, id); got != code {
			t.Errorf("%s: %s, want %s", text, got, code)
		}
	}
}

func TestContainerStates(t *testing.T) {
	f := newFake()
	m := newManager(t, f, t.TempDir())
	id := create(t, m)
	for state, text := range map[container.ContainerState]string{
		container.StateExited:     "container c1 is not running",
		container.StatePaused:     "container c1 is paused, unpause the container before exec",
		container.StateRestarting: "container c1 is restarting, wait until the container is running",
	} {
		f.state = state
		if _, err := m.Create("c1", container.ExecCreateRequest{Cmd: []string{"x"}}, nil); !errdefs.IsConflict(err) || err.Error() != text {
			t.Errorf("create, %s: %v", state, err)
		}
		if _, err := m.Begin(id, container.ExecStartRequest{}); !errdefs.IsConflict(err) || err.Error() != text {
			t.Errorf("start, %s: %v", state, err)
		}
	}
	f.state = ""
	if _, err := m.Inspect(t.Context(), id); !errdefs.IsNotFound(err) {
		t.Errorf("inspect without its container: %v", err)
	}
}

// The engine may die at any time: the next one knows what became of all.
func TestRecover(t *testing.T) {
	f := newFake()
	dir := t.TempDir()
	m := newManager(t, f, dir)
	created, running, ended, lost := create(t, m), create(t, m), create(t, m), create(t, m)
	for _, id := range []string{running, ended, lost} {
		start(t, m, id)
	}
	m.Close()
	f.exit(ended, 5)
	delete(f.tasks, lost)

	m = newManager(t, f, dir)
	for id, want := range map[string]string{created: "created", running: "running", ended: "exited 5", lost: "exited 126"} {
		if got := inspect(t, m, id); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	m.Close()
	m = newManager(t, f, dir)
	if got := inspect(t, m, lost); got != "exited 126" {
		t.Errorf("a start that was given up: %s", got)
	}
	start(t, m, created)
	if err := m.Resize(t.Context(), running, 10, 20); err != nil {
		t.Error(err)
	}
}

func TestPrune(t *testing.T) {
	f := newFake()
	dir := t.TempDir()
	m := newManager(t, f, dir)
	id := create(t, m)
	start(t, m, id)
	f.exit(id, 0)
	inspect(t, m, id)
	x, err := m.find(id)
	if err != nil {
		t.Fatal(err)
	}
	x.rec.Ended = time.Now().Add(-2 * kept)
	create(t, m)
	if _, err := m.find(id); !errors.Is(err, errdefs.ErrNotFound) {
		t.Errorf("an old exec is still there: %v", err)
	}
	if files, _ := os.ReadDir(dir); len(files) != 1 {
		t.Errorf("%d records left, want 1", len(files))
	}
}
