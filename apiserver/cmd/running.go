package cmd

import (
	"context"
	"errors"
	"os"
	"syscall"
	"time"

	"github.com/containerd/errdefs"

	"github.com/kelp-engine/kelp/engine/fault"
	"github.com/kelp-engine/kelp/engine/keeper"
	"github.com/kelp-engine/kelp/userns/procid"
)

// helloTimeout bounds how long a keeper may take to say who it is. It does
// nothing else on the way: one that takes longer is stopped or broken.
const helloTimeout = 10 * time.Second

// running is a keeper that runs.
type running struct {
	keeper.Hello
	client *keeper.Client
}

// findRunning finds the keeper of the settings' runtime directory or, when it
// was started with another one, of their data root. None is
// errdefs.ErrNotFound; one that does not answer is errLost.
func findRunning(ctx context.Context, s settings) (running, error) {
	r, err := hello(ctx, s.RuntimeDir)
	if err == nil || !errdefs.IsUnavailable(err) {
		return r, err
	}
	h, err := keeper.FindHolder(s.DataRoot)
	if err != nil {
		return r, err
	}
	if r, err := hello(ctx, h.RuntimeDir); err == nil && r.PID == h.PID {
		return r, nil
	}
	return helloSoon(ctx, s.DataRoot, h)
}

// findLive is findRunning, but for a keeper that is ending: it waits until
// that is gone.
func findLive(ctx context.Context, s settings) (running, error) {
	for {
		r, err := findRunning(ctx, s)
		if err != nil || !r.Stopping {
			return r, err
		}
		if err := r.wait(ctx); err != nil {
			return r, err
		}
	}
}

func hello(ctx context.Context, runtimeDir string) (running, error) {
	ctx, cancel := context.WithTimeout(ctx, helloTimeout)
	defer cancel()
	r := running{client: keeper.NewClient(runtimeDir)}
	var err error
	r.Hello, err = r.client.Hello(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		return r, fault.Internal("the keeper in %s does not answer", runtimeDir).WithHint("run 'kelp stop'")
	}
	return r, err
}

// Bounds of the wait for a keeper that holds its lock to be reached, where its
// runtime directory is there and where not.
const (
	listenPatience = 15 * time.Second
	lostPatience   = time.Second
)

// helloSoon gives a keeper the time to listen, which it does after it has
// taken its lock, or to end, before which it no longer listens.
func helloSoon(ctx context.Context, dataRoot string, h keeper.Holder) (running, error) {
	patience := listenPatience
	if _, err := os.Stat(h.RuntimeDir); err != nil {
		patience = lostPatience
	}
	for end := time.Now().Add(patience); time.Now().Before(end); {
		select {
		case <-ctx.Done():
			return running{}, ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
		if r, err := hello(ctx, h.RuntimeDir); err == nil {
			return r, nil
		}
		if now, err := keeper.FindHolder(dataRoot); err != nil || now != h {
			return running{}, fault.NotFound("no kelp runs on the data root %s", dataRoot)
		}
	}
	return running{}, errLost{h}
}

// errLost says that a keeper runs but cannot be reached.
type errLost struct{ keeper.Holder }

func (e errLost) Error() string {
	return fault.Conflict("kelp runs (keeper pid %d) but cannot be reached in its runtime directory %s, which may have been removed", e.PID, e.RuntimeDir).
		WithHint("run 'kelp stop' and start it again").Error()
}

// matches refuses a keeper that is not where the user asked for one.
func (r running) matches(s settings) error {
	if s.dataRootGiven && r.DataRoot != s.DataRoot || s.socketGiven && r.Socket != s.Socket {
		return fault.Conflict("a kelp with data root %s and socket %s already runs", r.DataRoot, r.Socket).
			WithHint("stop it first with 'kelp stop', or give this one another XDG_RUNTIME_DIR as well")
	}
	return nil
}

// wait returns when the keeper has ended, or with ctx.
func (r running) wait(ctx context.Context) error {
	p, err := findProcess(r.PID)
	if p == nil || err != nil {
		return err
	}
	defer p.Close()
	return p.Wait(ctx)
}

// findProcess returns the process that has the pid now, or nil when it is
// gone.
func findProcess(pid int) (*procid.Process, error) {
	id, err := procid.Of(pid)
	if err == nil {
		var p *procid.Process
		if p, err = procid.Find(id); err == nil {
			return p, nil
		}
	}
	if errors.Is(err, os.ErrProcessDone) {
		return nil, nil
	}
	return nil, err
}

// stop shuts everything down and returns when the keeper is gone. Containers
// that have not stopped after timeout, 0 being the keeper's own, are killed.
func (r running) stop(ctx context.Context, timeout time.Duration) error {
	p, err := findProcess(r.PID)
	if p == nil || err != nil {
		return err
	}
	defer p.Close()
	if err := r.client.Shutdown(ctx, keeper.ShutdownRequest{Grace: timeout}); err != nil && !errdefs.IsUnavailable(err) {
		return err
	}
	return finish(ctx, p, timeout)
}

// stopLost ends a keeper that cannot be reached.
func stopLost(ctx context.Context, h keeper.Holder, timeout time.Duration) error {
	p, err := procid.Find(h.ID)
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	if err != nil {
		return err
	}
	defer p.Close()
	if err := p.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return finish(ctx, p, timeout)
}

// Limits of a shutdown besides the time that containers get.
const (
	longestStop = time.Minute
	wrapUp      = 15 * time.Second
)

// finish waits for a keeper that is shutting down, and kills one that does
// not end.
func finish(ctx context.Context, p *procid.Process, timeout time.Duration) error {
	if timeout == 0 {
		timeout = longestStop
	}
	limited, cancel := context.WithTimeout(ctx, timeout+wrapUp)
	defer cancel()
	err := p.Wait(limited)
	if err == nil || ctx.Err() != nil {
		return err
	}
	if err := p.Signal(syscall.SIGKILL); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return p.Wait(ctx)
}
