// Package procid names processes so that a pid that has been used again is
// never taken for the process it once was: by the pid and the start time.
//
// It must not start processes.
package procid

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kelp-engine/kelp/userns/procstat"
)

// ID names one process for good.
type ID struct {
	PID       int    `json:"pid"`
	StartTime uint64 `json:"start_time"` // clock ticks since boot, field 22 of /proc/PID/stat
}

// errGone says that no such process runs (any more).
var errGone = fmt.Errorf("the process is gone: %w", os.ErrProcessDone)

// Of returns the ID of the process that has the pid now. A process that has
// ended, reaped or not, is os.ErrProcessDone.
func Of(pid int) (ID, error) {
	s, err := procstat.Read(pid)
	if errors.Is(err, os.ErrNotExist) || err == nil && s.Ended() {
		return ID{}, errGone
	}
	return ID{PID: s.PID, StartTime: s.StartTime}, err
}

// Process is a running process that was found by its ID.
type Process struct {
	id    ID
	pidfd *os.File // nil on kernels that have none (before Linux 5.3)
}

// Find returns the process that id names; one that has ended is
// os.ErrProcessDone. Close it after use.
func Find(id ID) (*Process, error) {
	p := &Process{id: id}
	fd, err := unix.PidfdOpen(id.PID, 0)
	switch {
	case err == nil:
		p.pidfd = os.NewFile(uintptr(fd), "pidfd")
	case errors.Is(err, unix.ESRCH):
		return nil, errGone
	case !errors.Is(err, unix.ENOSYS):
		return nil, fmt.Errorf("cannot look at process %d: %w", id.PID, err)
	}
	if now, err := Of(id.PID); err != nil || now != id {
		p.Close()
		return nil, errors.Join(errGone, err)
	}
	return p, nil
}

// Close lets go of the process.
func (p *Process) Close() error {
	if p.pidfd == nil {
		return nil
	}
	return p.pidfd.Close()
}

// Signal sends sig; a process that has ended is os.ErrProcessDone.
func (p *Process) Signal(sig syscall.Signal) error {
	var err error
	if p.pidfd != nil {
		err = unix.PidfdSendSignal(int(p.pidfd.Fd()), sig, nil, 0)
	} else if now, ofErr := Of(p.id.PID); ofErr != nil || now != p.id {
		return errGone
	} else {
		err = unix.Kill(p.id.PID, sig)
	}
	if errors.Is(err, unix.ESRCH) {
		return errGone
	}
	return err
}

// Wait returns when the process has ended, or with ctx.
func (p *Process) Wait(ctx context.Context) error {
	if p.pidfd == nil {
		return p.waitByPolling(ctx)
	}
	cancelR, cancelW, err := os.Pipe()
	if err != nil {
		return err
	}
	defer cancelR.Close()
	defer cancelW.Close()
	stop := context.AfterFunc(ctx, func() { cancelW.Close() })
	defer stop()
	fds := []unix.PollFd{
		{Fd: int32(p.pidfd.Fd()), Events: unix.POLLIN},
		{Fd: int32(cancelR.Fd()), Events: unix.POLLIN},
	}
	for {
		_, err := unix.Poll(fds, -1)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return fmt.Errorf("cannot wait for process %d: %w", p.id.PID, err)
		case fds[0].Revents != 0:
			return nil
		default:
			return ctx.Err()
		}
	}
}

func (p *Process) waitByPolling(ctx context.Context) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		if now, err := Of(p.id.PID); err != nil || now != p.id {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}
