package container

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/moby/moby/api/types/container"
	"golang.org/x/sys/unix"

	"github.com/kelp-engine/kelp/engine/keeper"
	"github.com/kelp-engine/kelp/engine/spec"
)

// maxProbeOutput is how much of a check's output is kept, in bytes.
const maxProbeOutput = 4096

// probePrefix is what the exec ids of health checks begin with.
const probePrefix = "health-"

// Prober executes health checks; keeper.Client is the real one.
type Prober interface {
	Exec(ctx context.Context, r keeper.ExecRequest, attach *os.File, ended func(keeper.AttachResult, error)) (keeper.Started, error)
}

// probes runs health checks.
type probes struct {
	o *Options

	mu      sync.Mutex
	running map[string]chan keeper.Task // guarded by mu; by exec id, told of the end
}

// run checks the container's health once.
func (p *probes) run(ctx context.Context, r *Record) *container.HealthcheckResult {
	timeout := orElse(r.Config.Healthcheck.Timeout, healthTimeout)
	result := &container.HealthcheckResult{Start: time.Now(), ExitCode: -1}
	output, code, err := p.exec(ctx, r, timeout)
	result.End = time.Now()
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		result.Output = fmt.Sprintf("Health check exceeded timeout (%v)", timeout)
		if output != "" {
			result.Output += ": " + output
		}
	case err != nil:
		result.Output = err.Error()
	default:
		result.ExitCode, result.Output = code, output
	}
	return result
}

// exec executes the check, and kills it when it takes too long or ctx ends.
func (p *probes) exec(ctx context.Context, r *Record, timeout time.Duration) (output string, code int, err error) {
	proc, err := spec.Process(spec.Exec{
		Request:    container.ExecCreateRequest{Cmd: healthCommand(r.Config)},
		Config:     r.Config,
		HostConfig: r.HostConfig,
		Rootfs:     fmt.Sprintf("/proc/%d/root", r.Process.PID),
		Host:       p.o.Host,
	})
	if err != nil {
		return "", 0, err
	}
	ours, theirs, err := socketPair()
	if err != nil {
		return "", 0, err
	}
	defer ours.Close()
	ref := keeper.Ref{Container: r.ID, Exec: probePrefix + newID()[:24]}
	ended := p.expect(ref.Exec)
	defer p.abandon(context.WithoutCancel(ctx), ref, ended)
	req := keeper.ExecRequest{Ref: ref, Process: proc, Attach: &keeper.AttachRequest{Ref: ref, Stdout: true, Stderr: true}}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if err := p.begin(ctx, req, theirs); err != nil {
		return "", 0, err
	}
	output, err = readProbe(ctx, ours)
	if err == nil {
		select {
		case t := <-ended:
			ended <- t // for abandon
			return output, t.ExitCode, nil
		case <-ctx.Done():
			err = ctx.Err()
		}
	}
	// taskChanged sees to the rest of it.
	_ = p.o.Processes.Signal(context.WithoutCancel(ctx), ref, sigKill, false)
	return output, 0, err
}

// begin has the keeper execute the check. It takes over theirs. A keeper that
// is slow to answer, as when the container dies under the check, is not waited
// for longer than ctx: the goroutine ends with its answer.
func (p *probes) begin(ctx context.Context, req keeper.ExecRequest, theirs *os.File) error {
	begun := make(chan error, 1)
	go func() {
		_, err := p.o.Prober.Exec(ctx, req, theirs, nil)
		theirs.Close()
		begun <- err
	}()
	select {
	case err := <-begun:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// expect returns where the end of a check will be told.
func (p *probes) expect(id string) chan keeper.Task {
	ended := make(chan keeper.Task, 1)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.running[id] = ended
	return ended
}

// abandon waits no longer: the keeper forgets the check now if it has ended,
// else taskChanged sees to it.
func (p *probes) abandon(ctx context.Context, ref keeper.Ref, ended chan keeper.Task) {
	p.mu.Lock()
	delete(p.running, ref.Exec)
	p.mu.Unlock()
	select {
	case <-ended:
		_ = p.o.Tasks.Forget(ctx, ref)
	default:
	}
}

// taskChanged tells whoever waits for a check of its end. Nobody waits for one
// that took too long or that an earlier engine began.
func (p *probes) taskChanged(ctx context.Context, t keeper.Task) {
	if !strings.HasPrefix(t.Exec, probePrefix) {
		return
	}
	p.mu.Lock()
	ended := p.running[t.Exec]
	if t.Status == keeper.Exited && ended != nil {
		select {
		case ended <- t: // under the lock, so that abandon sees it
		default: // told already
		}
	}
	p.mu.Unlock()
	switch {
	case t.Status == keeper.Exited && ended != nil:
	case t.Status == keeper.Exited:
		_ = p.o.Tasks.Forget(ctx, t.Ref)
	case ended == nil:
		_ = p.o.Processes.Signal(ctx, t.Ref, sigKill, false)
	}
}

// readProbe reads all output, keeping the beginning of it.
func readProbe(ctx context.Context, from *os.File) (string, error) {
	stop := context.AfterFunc(ctx, func() { _ = from.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	var kept strings.Builder
	n, err := io.Copy(&kept, io.LimitReader(from, maxProbeOutput))
	text := kept.String()
	if err == nil && n == maxProbeOutput {
		var more int64
		if more, err = io.Copy(io.Discard, from); more > 0 {
			text += "..."
		}
	}
	if err != nil && ctx.Err() != nil {
		err = ctx.Err()
	}
	return text, err
}

// socketPair makes a connection to hand one end of to the keeper.
func socketPair() (ours, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, nil, err
	}
	return os.NewFile(uintptr(fds[0]), "probe"), os.NewFile(uintptr(fds[1]), "probe-keeper"), nil
}
