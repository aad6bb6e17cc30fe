// Package attach connects clients to the standard streams of containers.
//
// It copies no bytes: connections are handed to the keeper, so that they
// outlive the engine. It must not know HTTP.
package attach

import (
	"context"
	"log/slog"
	"os"
	"strconv"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"

	"github.com/kelp-engine/kelp/engine/fault"
	"github.com/kelp-engine/kelp/engine/keeper"
)

// Container is a container as clients attach to it.
type Container struct {
	ID        string
	State     container.ContainerState
	TTY       bool
	OpenStdin bool
}

// Containers is what attaching needs of containers.
type Containers interface {
	// LookupAttach finds a container by id, part of it, or name.
	LookupAttach(ref string) (Container, error)
	// PublishOf tells of an action on the container, with pairs of attributes.
	PublishOf(id string, action events.Action, attrs ...string)
}

// Processes has the streams; keeper.Client is the real one.
type Processes interface {
	Attach(ctx context.Context, r keeper.AttachRequest, conn *os.File, ended func(keeper.AttachResult, error)) error
	Resize(ctx context.Context, ref keeper.Ref, height, width uint16) error
}

// Manager attaches clients.
type Manager struct {
	containers Containers
	processes  Processes
	pending    pending
}

// New returns a manager.
func New(c Containers, p Processes) *Manager { return &Manager{containers: c, processes: p} }

// Options say what a client wants to be attached to.
type Options struct {
	Stdin, Stdout, Stderr bool
	DetachKeys            []byte
}

// Attachment is one that was checked and has yet to be made.
type Attachment struct {
	m   *Manager
	c   Container
	req keeper.AttachRequest
}

// Prepare checks that a client can be attached to a container, running or
// not: one that does not run is attached to when it starts.
func (m *Manager) Prepare(ref string, o Options) (*Attachment, error) {
	c, err := m.containers.LookupAttach(ref)
	if err != nil {
		return nil, err
	}
	switch c.State {
	case container.StatePaused:
		return nil, fault.Conflict("container %s is paused, unpause the container before attach", c.ID)
	case container.StateRestarting:
		return nil, fault.Conflict("container %s is restarting, wait until the container is running", c.ID)
	case container.StateRemoving, container.StateDead:
		return nil, fault.Conflict("container %s is marked for removal and cannot be attached to", c.ID)
	}
	return &Attachment{m: m, c: c, req: keeper.AttachRequest{
		Ref:        keeper.Ref{Container: c.ID},
		Stdin:      o.Stdin && c.OpenStdin,
		Stdout:     o.Stdout,
		Stderr:     o.Stderr,
		DetachKeys: o.DetachKeys,
		Next:       c.State != container.StateRunning,
	}}, nil
}

// ID of the container.
func (a *Attachment) ID() string { return a.c.ID }

// TTY says whether the container has a terminal, whose output is one stream
// and never framed.
func (a *Attachment) TTY() bool { return a.c.TTY }

// Connect hands conn to the keeper, with input that was read ahead from it;
// mux says that output is to be framed. The caller still closes conn.
func (a *Attachment) Connect(ctx context.Context, conn *os.File, mux bool, buffered []byte) error {
	a.req.Mux, a.req.Buffered = mux, buffered
	if err := a.m.processes.Attach(ctx, a.req, conn, a.ended); err != nil {
		return err
	}
	a.Tell()
	return nil
}

// Tell publishes that there is a client. Connect does it for those who stay.
func (a *Attachment) Tell() { a.m.containers.PublishOf(a.c.ID, events.ActionAttach) }

// ended hears that the attachment is over.
func (a *Attachment) ended(r keeper.AttachResult, err error) {
	if err != nil {
		slog.Debug("an attachment broke off", "container", a.c.ID, "error", err)
		return
	}
	if r.Detached {
		a.m.containers.PublishOf(a.c.ID, events.ActionDetach)
	}
}

// Resize sets the size of a running container's terminal.
func (m *Manager) Resize(ctx context.Context, ref string, height, width uint16) error {
	c, err := m.containers.LookupAttach(ref)
	if err != nil {
		return err
	}
	if c.State != container.StateRunning && c.State != container.StatePaused {
		return fault.Conflict("container %s is not running", c.ID)
	}
	if err := m.processes.Resize(ctx, keeper.Ref{Container: c.ID}, height, width); err != nil {
		return err
	}
	m.containers.PublishOf(c.ID, events.ActionResize, "height", strconv.Itoa(int(height)), "width", strconv.Itoa(int(width)))
	return nil
}
