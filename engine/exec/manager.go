package exec

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"

	"github.com/kelp-engine/kelp/engine/fault"
	"github.com/kelp-engine/kelp/engine/keeper"
	"github.com/kelp-engine/kelp/engine/record"
	"github.com/kelp-engine/kelp/engine/spec"
)

// kept is how long an exec can be inspected after its end, as with Docker.
const kept = 5 * time.Minute

// Options are what a Manager works with.
type Options struct {
	// Dir is where records lie. They need not outlive the machine, as no
	// exec does: a directory in memory serves best.
	Dir        string
	Host       spec.Host
	Containers Containers
	Processes  Processes
}

// Manager owns all execs.
type Manager struct {
	o     Options
	store *record.Store[Record]
	stop  context.CancelFunc
	done  sync.WaitGroup

	mu   sync.Mutex
	byID map[string]*instance
}

// New returns a manager of the execs in o.Dir. Recover brings them in.
func New(o Options) (*Manager, error) {
	store, err := record.NewStore[Record](o.Dir, record.Options{Schema: 1})
	if err != nil {
		return nil, err
	}
	return &Manager{o: o, store: store, byID: map[string]*instance{}, stop: func() {}}, nil
}

// Close ends what the manager does in the background. Processes run on.
func (m *Manager) Close() {
	m.stop()
	m.done.Wait()
}

// Create prepares the execution of a process in a running container; keys is
// r.DetachKeys as bytes.
func (m *Manager) Create(ref string, r container.ExecCreateRequest, keys []byte) (id string, err error) {
	if len(r.Cmd) == 0 {
		return "", fault.InvalidArgument("No exec command specified")
	}
	if err := checkConsole(r.ConsoleSize); err != nil {
		return "", err
	}
	c, err := m.o.Containers.Lookup(ref)
	if err != nil {
		return "", err
	}
	if err := active(c); err != nil {
		return "", err
	}
	m.prune()
	rec := Record{ID: newID(), Container: c.ID, Request: r, DetachKeys: keys, Created: time.Now().UTC(), State: Created}
	if err := m.save(&rec); err != nil {
		return "", err
	}
	m.add(rec)
	m.o.Containers.PublishOf(c.ID, withCommand(events.ActionExecCreate, &rec), "execID", rec.ID)
	return rec.ID, nil
}

func checkConsole(size *[2]uint) error {
	if size == nil {
		return nil
	}
	return spec.CheckConsole(*size)
}

// withCommand is the action of an event on an exec, the way Docker words it.
func withCommand(a events.Action, r *Record) events.Action {
	return a + ": " + events.Action(r.Request.Cmd[0]+" "+strings.Join(r.Request.Cmd[1:], " "))
}

func newID() string {
	b := make([]byte, 32)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

func (m *Manager) add(r Record) *instance {
	x := &instance{rec: r, started: make(chan struct{})}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.byID[r.ID] = x
	return x
}

func (m *Manager) find(id string) (*instance, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if x := m.byID[id]; x != nil {
		return x, nil
	}
	return nil, fault.NotFound("No such exec instance: %s", id)
}

// save keeps a record for as long as the machine runs.
func (m *Manager) save(r *Record) error {
	if err := m.store.SaveRecent(r.ID, r); err != nil {
		return fault.Internal("cannot keep the state of exec %s: %w", r.ID, err)
	}
	return nil
}

// Inspect returns what is known of an exec.
func (m *Manager) Inspect(ctx context.Context, id string) (container.ExecInspectResponse, error) {
	x, err := m.find(id)
	if err != nil {
		return container.ExecInspectResponse{}, err
	}
	r := x.record()
	if _, err := m.o.Containers.Lookup(r.Container); err != nil {
		return container.ExecInspectResponse{}, err
	}
	if r.State == Running {
		// Clients ask right after the output has ended: the keeper knows of
		// the end before it has told everybody.
		if t, err := m.o.Processes.Task(ctx, r.ref()); err == nil && t.Status == keeper.Exited {
			m.exited(context.WithoutCancel(ctx), t)
		}
		r = x.record() // it was told, and forgotten there, meanwhile
	}
	return response(&r), nil
}

func response(r *Record) container.ExecInspectResponse {
	q := r.Request
	resp := container.ExecInspectResponse{
		ID:          r.ID,
		ContainerID: r.Container,
		Running:     r.State == Running,
		OpenStdin:   q.AttachStdin,
		OpenStdout:  q.AttachStdout,
		OpenStderr:  q.AttachStderr,
		DetachKeys:  []byte{},
		Pid:         r.PID,
		ProcessConfig: &container.ExecProcessConfig{
			Tty: q.Tty, Entrypoint: q.Cmd[0], Arguments: append([]string{}, q.Cmd[1:]...),
			Privileged: &q.Privileged, User: q.User,
		},
	}
	if q.DetachKeys != "" {
		resp.DetachKeys = r.DetachKeys
	}
	if r.State == Exited {
		resp.ExitCode = &r.ExitCode
	}
	return resp
}

// Resize sets the size of the exec's terminal, waiting for its start if that
// is under way.
func (m *Manager) Resize(ctx context.Context, id string, height, width uint16) error {
	x, err := m.find(id)
	if err != nil {
		return err
	}
	r := x.record()
	c, err := m.o.Containers.Lookup(r.Container)
	if err != nil {
		return err
	}
	if err := active(c); err != nil {
		return err
	}
	if r.State != Running {
		return fault.Conflict("exec %s is not running", id)
	}
	select {
	case <-x.started:
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(10 * time.Second):
		return fault.Unavailable("timeout waiting for exec session ready")
	}
	return m.o.Processes.Resize(ctx, r.ref(), height, width)
}

// Of lists the execs of a container that have not ended.
func (m *Manager) Of(containerID string) []string {
	var ids []string
	for _, x := range m.all() {
		if r := x.record(); r.Container == containerID && r.State != Exited {
			ids = append(ids, r.ID)
		}
	}
	slices.Sort(ids)
	return ids
}

func (m *Manager) all() []*instance {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Collect(maps.Values(m.byID))
}

// prune drops execs that ended a while ago, and those that will never run
// because their container has ended.
func (m *Manager) prune() {
	for _, x := range m.all() {
		r := x.record()
		switch {
		case r.State == Exited && time.Since(r.Ended) > kept:
		case r.State == Created && time.Since(r.Created) > kept && !m.runs(r.Container):
		default:
			continue
		}
		m.mu.Lock()
		delete(m.byID, r.ID)
		m.mu.Unlock()
		if err := m.store.DeleteRecent(r.ID); err != nil {
			slog.Warn("cannot remove the record of an exec", "exec", r.ID, "error", err)
		}
	}
}

func (m *Manager) runs(containerID string) bool {
	c, err := m.o.Containers.Lookup(containerID)
	return err == nil && (c.State == container.StateRunning || c.State == container.StatePaused)
}

func isNotFound(err error) bool { return errors.Is(err, errdefs.ErrNotFound) }
