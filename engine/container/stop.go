package container

import (
	"cmp"
	"context"
	"errors"
	"math"
	"strconv"
	"time"

	"github.com/moby/moby/api/types/events"
	"golang.org/x/sys/unix"

	"github.com/kelp-engine/kelp/engine/crashpoint"
	"github.com/kelp-engine/kelp/engine/fault"
	"github.com/kelp-engine/kelp/engine/keeper"
	"github.com/kelp-engine/kelp/engine/spec"
)

const (
	sigKill = int(unix.SIGKILL)
	sigTerm = int(unix.SIGTERM)

	// defaultStopTimeout is how long a container may take to end when asked.
	defaultStopTimeout = 10 * time.Second
	// killTimeout is how long a killed process may take to be gone.
	killTimeout = 30 * time.Second
)

// StopOptions say how a container is asked to end.
type StopOptions struct {
	// Signal to ask with; "" takes the container's.
	Signal string
	// Timeout in seconds before it is killed; nil takes the container's,
	// below 0 is never.
	Timeout *int
}

// Stop ends a running container.
func (m *Manager) Stop(ctx context.Context, ref string, o StopOptions) error {
	c, release, err := hold(ctx, m.runner, ref)
	if err != nil {
		return err
	}
	defer release()
	ctx = context.WithoutCancel(ctx)
	r := c.Snapshot()
	if !r.State.Running() && r.State != Restarting {
		return fault.NotModified("container %s is already stopped", r.Name)
	}
	signal, timeout, err := o.of(r)
	if err != nil {
		return err
	}
	return m.stopWith(ctx, c, signal, timeout, false)
}

// of fills in what the options leave to the container.
func (o StopOptions) of(r *Record) (signal int, timeout time.Duration, err error) {
	signal = r.stopSignal()
	if o.Signal != "" {
		if signal, err = spec.ParseSignal(o.Signal); err != nil {
			return 0, 0, err
		}
	}
	timeout = defaultStopTimeout
	if s := cmp.Or(o.Timeout, r.Config.StopTimeout); s != nil {
		timeout = seconds(*s)
	}
	return signal, timeout, nil
}

// stopSignal is the signal that asks the container to end.
func (r *Record) stopSignal() int {
	if n, err := spec.ParseSignal(r.Config.StopSignal); err == nil {
		return n
	}
	return sigTerm
}

// seconds is a duration of n seconds, or the longest there is.
func seconds(n int) time.Duration {
	const most = math.MaxInt64 / int(time.Second)
	return time.Duration(min(n, most)) * time.Second
}

// stopWith ends the container and keeps its restart policy from undoing that:
// the intent is saved first, so that no engine starts it again, or, where again
// is set, so that it is. The engine may die between any two lines; the next one
// carries on.
//
// Preconditions: the operation token is held; the container runs, or is
// Restarting.
func (m *runner) stopWith(ctx context.Context, c *Container, signal int, timeout time.Duration, again bool) error {
	c.stopRestartTimer()
	r := c.Snapshot()
	intent := func(r *Record) { r.StoppedByUser, r.StartAgain = true, again }
	if r.State == Restarting {
		logFailure(r, "save the stop", m.happened(c, Exited, r.wantedToRun(), intent))
		m.publish(c.Snapshot(), events.ActionStop)
		return nil
	}
	// A full disk keeps no one from stopping what fills it.
	logFailure(r, "save the stop", m.happened(c, Stopping, r.wantedToRun(), func(r *Record) {
		intent(r)
		r.Ending = newEnding(signal, timeout)
	}))
	c.stopHealth()
	crashpoint.Hit("container.stop.saved-intent")
	if err := m.end(ctx, c, r.State == Paused, signal, timeout); err != nil {
		return named(r, "stop", err)
	}
	m.publish(c.Snapshot(), events.ActionStop)
	return nil
}

// end asks the container's process to end, kills it when it does not in time,
// and does what follows from its end.
//
// Preconditions: the operation token is held; the state is Stopping.
func (m *runner) end(ctx context.Context, c *Container, paused bool, signal int, timeout time.Duration) error {
	r := c.Snapshot()
	if err := m.signal(ctx, r, signal, paused); err != nil && !isNotFound(err) {
		return err
	}
	if signal != sigKill {
		err := c.awaitExit(ctx, timeout)
		if errors.Is(err, context.DeadlineExceeded) {
			err = m.signal(ctx, r, sigKill, false)
		}
		if err != nil && !isNotFound(err) {
			return err
		}
	}
	crashpoint.Hit("container.stop.signalled")
	if err := c.awaitExit(ctx, killTimeout); err != nil {
		return fault.Internal("tried to kill container, but did not receive an exit event: %w", err)
	}
	m.settle(ctx, c)
	return nil
}

// awaitExit returns once the keeper has told of the end of the process, or
// context.DeadlineExceeded after the timeout. One below 0 is none.
func (c *Container) awaitExit(ctx context.Context, timeout time.Duration) error {
	if timeout >= 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	process := c.Snapshot().Process
	return c.await(ctx, func(*Record, *keeper.Task, bool) bool { return c.exitOf(process) != nil })
}

// signal sends a signal to the container's first process and tells of it. A
// paused one cannot take it before it goes on.
func (m *runner) signal(ctx context.Context, r *Record, signal int, resume bool) error {
	if err := m.o.Processes.Signal(ctx, keeper.Ref{Container: r.ID}, signal, false); err != nil {
		return err
	}
	if resume {
		if err := m.o.Processes.Resume(ctx, r.ID); err != nil && !isNotFound(err) {
			return err
		}
	}
	m.publish(r, events.ActionKill, "signal", strconv.Itoa(signal))
	return nil
}

// Restart stops a container if it runs, and starts it.
func (m *Manager) Restart(ctx context.Context, ref string, o StopOptions) error {
	c, release, err := hold(ctx, m.runner, ref)
	if err != nil {
		return err
	}
	defer release()
	ctx = context.WithoutCancel(ctx)
	r := c.Snapshot()
	if r.State == Removing || r.State == Dead {
		return fault.Conflict("container is marked for removal and cannot be started")
	}
	signal, timeout, err := o.of(r)
	if err != nil {
		return err
	}
	return restart(ctx, m.runner, c, signal, timeout)
}

// restart stops a container if it runs, and starts it. The engine may die
// between any two lines; the next one carries on.
//
// Preconditions: the operation token is held.
func restart(ctx context.Context, m *runner, c *Container, signal int, timeout time.Duration) error {
	if r := c.Snapshot(); r.State.Running() || r.State == Restarting {
		if err := m.stopWith(ctx, c, signal, timeout, true); err != nil {
			if ctx.Err() == nil { // else the next engine's business
				logFailure(r, "give up the restart", m.change(c, process, func(r *Record) { r.StartAgain = false }))
			}
			return err
		}
	}
	crashpoint.Hit("container.restart.stopped")
	if err := m.start(ctx, c, func(r *Record) { r.StoppedByUser, r.RestartCount = false, 0 }); err != nil {
		return err
	}
	m.publish(c.Snapshot(), events.ActionRestart)
	return nil
}

// Kill sends a signal to a running container; "" is SIGKILL. It takes no
// operation token: a kill comes through while a stop waits.
func (m *Manager) Kill(ctx context.Context, ref, signal string) error {
	c, err := m.Find(ref)
	if err != nil {
		return err
	}
	n := sigKill
	if signal != "" {
		if n, err = spec.ParseSignal(signal); err != nil {
			return err
		}
	}
	switch r := c.Snapshot(); {
	case r.State.Running():
		return m.kill(ctx, c, n)
	case r.State == Restarting:
		err := m.Stop(ctx, c.id, StopOptions{Signal: signal}) // between two runs: nothing waits
		if isNotModified(err) {
			return nil
		}
		return err
	default:
		return fault.Conflict("cannot kill container: %s: container %s is not running", ref, r.ID)
	}
}

// kill sends a signal. SIGKILL and the container's stop signal end it for
// good, whatever its restart policy; after SIGKILL its end is waited for.
func (m *runner) kill(ctx context.Context, c *Container, signal int) error {
	r := c.Snapshot()
	ends := signal == sigKill || signal == r.stopSignal()
	if ends {
		logFailure(r, "save the kill", m.happened(c, same, r.wantedToRun(), func(r *Record) { r.StoppedByUser = true }))
	}
	if signal == sigKill {
		c.stopHealth()
	}
	err := m.signal(ctx, r, signal, ends && r.State == Paused)
	if isNotFound(err) {
		return fault.Conflict("cannot kill container: %s: container %s is not running", r.Name, r.ID)
	}
	if err != nil || signal != sigKill {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, killTimeout)
	defer cancel()
	err = c.await(ctx, func(now *Record, _ *keeper.Task, gone bool) bool {
		return gone || !now.State.Running() || !sameProcess(now.Process, r.Process)
	})
	if err != nil {
		return fault.Internal("tried to kill container, but did not receive an exit event: %w", err)
	}
	return nil
}
