package exec

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/kelp-engine/kelp/engine/crashpoint"
	"github.com/kelp-engine/kelp/engine/fault"
	"github.com/kelp-engine/kelp/engine/keeper"
	"github.com/kelp-engine/kelp/engine/spec"
)

// Start is a start that was claimed and has yet to be carried out.
type Start struct {
	m *Manager
	x *instance
	c Container
	r Record
	// size is the terminal's, when the start gives another than the create.
	size *[2]uint
}

// Begin claims the start of an exec, which can be started once. Run or Abort
// must follow.
func (m *Manager) Begin(id string, o container.ExecStartRequest) (*Start, error) {
	if err := checkConsole(o.ConsoleSize); err != nil {
		return nil, err
	}
	x, err := m.find(id)
	if err != nil {
		return nil, err
	}
	c, err := m.o.Containers.Lookup(x.record().Container)
	if err != nil {
		return nil, err
	}
	if err := active(c); err != nil {
		return nil, err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	switch x.rec.State {
	case Running:
		return nil, fault.Conflict("error: Exec command %s is already running", id)
	case Exited:
		return nil, fault.Conflict("error: Exec command %s has already run", id)
	}
	next := x.rec
	next.State = Running
	if err := m.save(&next); err != nil {
		return nil, err
	}
	x.rec = next
	return &Start{m: m, x: x, c: c, r: next, size: o.ConsoleSize}, nil
}

// TTY says whether the exec has a terminal.
func (s *Start) TTY() bool { return s.r.Request.Tty }

// Abort ends a start whose client has gone before it was carried out.
func (s *Start) Abort() { s.failed(126) }

// Run starts the process. conn, unless nil, is the client's connection, which
// the keeper takes over when Run succeeds; mux says that output is framed, and
// buffered is input that was read ahead from conn.
func (s *Start) Run(ctx context.Context, conn *os.File, mux bool, buffered []byte) error {
	s.m.o.Containers.PublishOf(s.c.ID, withCommand(events.ActionExecStart, &s.r), "execID", s.r.ID)
	crashpoint.Hit("exec.start.saved-intent")
	started, err := s.run(context.WithoutCancel(ctx), conn, mux, buffered)
	if err != nil {
		s.failed(exitCode(err))
		return explain(err)
	}
	crashpoint.Hit("exec.start.running")
	s.x.mu.Lock()
	defer s.x.mu.Unlock()
	s.x.rec.PID = started.PID
	close(s.x.started)
	return nil
}

func (s *Start) run(ctx context.Context, conn *os.File, mux bool, buffered []byte) (keeper.Started, error) {
	process, err := s.process()
	if err != nil {
		return keeper.Started{}, err
	}
	q := s.r.Request
	req := keeper.ExecRequest{
		Ref:     s.r.ref(),
		Process: process,
		Stdio:   keeper.Stdio{TTY: q.Tty, Stdin: q.AttachStdin && conn != nil, StdinOnce: true},
	}
	if size := process.ConsoleSize; size != nil {
		req.Stdio.Height, req.Stdio.Width = uint16(size.Height), uint16(size.Width)
	}
	if conn == nil {
		return s.m.o.Processes.Exec(ctx, req, nil, nil)
	}
	req.Attach = &keeper.AttachRequest{
		Ref:        req.Ref,
		Stdin:      q.AttachStdin,
		Stdout:     q.AttachStdout,
		Stderr:     q.AttachStderr,
		Mux:        mux,
		DetachKeys: s.r.DetachKeys,
		Buffered:   buffered,
	}
	return s.m.o.Processes.Exec(ctx, req, conn, s.ended)
}

// process describes the process to the keeper.
func (s *Start) process() (*specs.Process, error) {
	q := s.r.Request
	if s.size != nil {
		q.ConsoleSize = s.size
	}
	return spec.Process(spec.Exec{
		Request:    q,
		Config:     s.c.Config,
		HostConfig: s.c.HostConfig,
		Rootfs:     fmt.Sprintf("/proc/%d/root", s.c.PID),
		Host:       s.m.o.Host,
	})
}

// ended hears that the attachment is over.
func (s *Start) ended(r keeper.AttachResult, err error) {
	if err != nil {
		slog.Debug("an attachment to an exec broke off", "exec", s.r.ID, "error", err)
		return
	}
	if r.Detached {
		s.m.o.Containers.PublishOf(s.c.ID, events.ActionExecDetach, "execID", s.r.ID)
	}
}

// failed records that the process could not be started.
func (s *Start) failed(code int) {
	s.m.setFailed(s.x, code)
	close(s.x.started)
}

func (m *Manager) setFailed(x *instance, code int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.rec.State, x.rec.ExitCode, x.rec.Ended = Exited, code, time.Now().UTC()
	if err := m.save(&x.rec); err != nil {
		slog.Error("cannot keep the end of an exec", "exec", x.rec.ID, "error", err)
	}
}

// exitCode is 127 for a command that is not there and 126 for one that cannot
// be executed, as Docker and shells have it.
func exitCode(err error) int {
	for _, missing := range []string{"executable file not found", "no such file or directory"} {
		if strings.Contains(err.Error(), missing) {
			return 127
		}
	}
	return 126
}

// explain puts an error into the words that tools look for.
func explain(err error) error {
	text := strings.TrimPrefix(err.Error(), "cannot start the process: ")
	if !strings.Contains(text, "unable to start container process") {
		text = "unable to start container process: " + text
	}
	text = "OCI runtime exec failed: exec failed: " + text
	switch {
	case errors.Is(err, errdefs.ErrInvalidArgument):
		return fault.InvalidArgument("%s", text)
	case errors.Is(err, errdefs.ErrConflict), isNotFound(err):
		return fault.Conflict("%s", text)
	}
	return fault.Internal("%s", text)
}
