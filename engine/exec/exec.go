// Package exec owns execs: processes that are executed in running containers,
// from their creation until a while after their end.
//
// It must not run processes (the keeper does) nor know how containers are
// kept: it meets them through the interface Containers.
package exec

import (
	"context"
	"os"
	"sync"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"

	"github.com/kelp-engine/kelp/engine/fault"
	"github.com/kelp-engine/kelp/engine/keeper"
)

// State of an exec.
type State string

// States. An exec that could not be started has exited.
const (
	Created State = "created"
	Running State = "running" // or about to: saved before the keeper is asked
	Exited  State = "exited"
)

// Record is what is known of an exec, as it lies on disk.
type Record struct {
	ID        string                      `json:"id"`
	Container string                      `json:"container"`
	Request   container.ExecCreateRequest `json:"request"`
	// DetachKeys is Request.DetachKeys as bytes.
	DetachKeys []byte    `json:"detach_keys,omitempty"`
	Created    time.Time `json:"created"`

	State    State     `json:"state"`
	PID      int       `json:"pid,omitempty"`
	ExitCode int       `json:"exit_code,omitempty"`
	Ended    time.Time `json:"ended,omitzero"`
}

// Container is a container as execs see it.
type Container struct {
	ID         string
	State      container.ContainerState
	PID        int // of its first process
	Config     *container.Config
	HostConfig *container.HostConfig
}

// Containers is what execs need of containers.
type Containers interface {
	// Lookup finds a container by id, part of it, or name.
	Lookup(ref string) (Container, error)
	// PublishOf tells of an action on the container, with pairs of attributes.
	PublishOf(id string, action events.Action, attrs ...string)
}

// Processes runs processes; keeper.Client is the real one.
type Processes interface {
	Exec(ctx context.Context, r keeper.ExecRequest, attach *os.File, ended func(keeper.AttachResult, error)) (keeper.Started, error)
	Resize(ctx context.Context, ref keeper.Ref, height, width uint16) error
	Task(ctx context.Context, ref keeper.Ref) (keeper.Task, error)
	Watch(ctx context.Context, each func(keeper.Task) error) error
	Forget(ctx context.Context, ref keeper.Ref) error
}

// instance is an exec in memory.
type instance struct {
	mu      sync.Mutex
	rec     Record
	started chan struct{} // closes when the start has come to its end
}

func (x *instance) record() Record {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.rec
}

// ref names the exec's process to the keeper.
func (r *Record) ref() keeper.Ref { return keeper.Ref{Container: r.Container, Exec: r.ID} }

// active refuses containers that nothing can be executed in.
func active(c Container) error {
	switch c.State {
	case container.StateRunning:
		return nil
	case container.StatePaused:
		return fault.Conflict("container %s is paused, unpause the container before exec", c.ID)
	case container.StateRestarting:
		return fault.Conflict("container %s is restarting, wait until the container is running", c.ID)
	}
	return fault.Conflict("container %s is not running", c.ID)
}
