package soak

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// errBroken is what a call gives that was under way when the engine was killed:
// the only ones that may fail. Those that begin while there is no engine wait
// for the next one.
var errBroken = errors.New("the engine was killed meanwhile")

// kills are the times at which engines died.
type kills struct {
	mu  sync.Mutex
	all []*kill
}

// kill is the death of an engine: it was told to die at began and had closed its
// connections at ended, zero while it dies.
type kill struct{ began, ended time.Time }

func (k *kills) count() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.all)
}

// during says whether an engine died between two times.
func (k *kills) during(began, ended time.Time) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, kill := range k.all {
		if ended.After(kill.began) && (kill.ended.IsZero() || began.Before(kill.ended)) {
			return true
		}
	}
	return false
}

// killOften kills an engine, the next one some time after it serves, and so on
// until ctx ends.
func (l *load) killOften(ctx context.Context, every time.Duration) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(every):
		}
		if err := l.kill(context.WithoutCancel(ctx)); err != nil {
			return err
		}
	}
}

func (l *load) kill(ctx context.Context) error {
	s, err := l.Status(ctx)
	if err != nil {
		return err
	}
	engine, err := unix.PidfdOpen(s.EnginePID, 0)
	if err != nil {
		return fmt.Errorf("the engine, pid %d: %w", s.EnginePID, err)
	}
	k := &kill{began: time.Now()}
	l.kills.mu.Lock()
	l.kills.all = append(l.kills.all, k)
	l.kills.mu.Unlock()
	died := make(chan error, 1)
	go func() {
		defer unix.Close(engine)
		err := awaitExit(engine)
		l.kills.mu.Lock()
		defer l.kills.mu.Unlock()
		k.ended = time.Now()
		died <- err
	}()
	return errors.Join(l.KillEngine(ctx), <-died)
}

// awaitExit waits until a process has given back all it had.
func awaitExit(pidfd int) error {
	fds := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(fds, int(time.Minute.Milliseconds()))
		switch {
		case errors.Is(err, unix.EINTR):
		case err == nil && n == 0:
			return errors.New("the killed engine does not end")
		default:
			return err
		}
	}
}

// do makes a call. Its error is errBroken when the connection failed because
// the engine was killed: an engine's own answer is never excused.
func (l *load) do(what string, call func() error) error {
	began := time.Now()
	err := call()
	switch {
	case err == nil:
		return nil
	case !answered(err) && l.kills.during(began, time.Now()):
		l.broken.Add(1)
		return fmt.Errorf("%s: %w", what, errBroken)
	}
	return fmt.Errorf("%s, after %v: %w", what, time.Since(began).Round(time.Millisecond), err)
}

// insist makes a call again and again until no kill breaks it.
func (l *load) insist(what string, call func() error) error {
	for {
		if err := l.do(what, call); !errors.Is(err, errBroken) {
			return err
		}
	}
}

// answered says whether an error is what an engine answered.
func answered(err error) bool {
	return errdefs.IsNotFound(err) || errdefs.IsConflict(err) || errdefs.IsInvalidArgument(err) || errdefs.IsInternal(err) ||
		errdefs.IsPermissionDenied(err) || errdefs.IsUnavailable(err) || errdefs.IsNotImplemented(err)
}
