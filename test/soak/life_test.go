package soak

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"github.com/kelp-engine/kelp/test/harness"
)

// lines is how many a container prints on each stream when it begins.
const lines = 100

// script is what a container does: it prints its name and the number of each line,
// waits to be stopped, then prints what execs have left and exits as it was told.
const script = `trap 'cat /execs; echo end; exit $1' TERM
: >> /execs
i=0; while [ $i -lt $2 ]; do echo "$0 $i"; echo "$0 $i!" >&2; i=$((i+1)); done
while :; do sleep 1000 & wait; done`

// life is that of one container.
type life struct {
	*load
	client *client.Client
	name   string
	id     string
	code   int
	execs  map[string]bool // tokens; true where the exec must have run
}

// live takes a container of the i-th client through its life. Where a kill
// breaks a call, the client finds out what became of it, as a careful user would.
func (l *load) live(ctx context.Context, c *client.Client, i int) error {
	n := l.lives.Add(1)
	v := &life{load: l, client: c, name: fmt.Sprintf("c%d-%d", i, n), code: int(n%100) + 1, execs: map[string]bool{}}
	for _, step := range []func(context.Context) error{v.create, v.start, v.printsAll, v.exec, v.exec, v.stop, v.ended, v.remove} {
		if err := step(ctx); err != nil {
			return fmt.Errorf("container %s (%.12s): %w", v.name, v.id, err)
		}
	}
	return nil
}

// create makes the container. A broken call has made it whole or not at all.
func (v *life) create(ctx context.Context) error {
	config := &container.Config{
		Image: "busybox", Cmd: []string{"sh", "-c", script, v.name, fmt.Sprint(v.code), fmt.Sprint(lines)},
		Labels: map[string]string{"life": v.name},
	}
	host := &container.HostConfig{}
	if v.code%2 == 0 {
		host.NetworkMode = "none"
	}
	for {
		err := v.do("create", func() error {
			made, err := v.client.ContainerCreate(ctx, client.ContainerCreateOptions{Name: v.name, Config: config, HostConfig: host})
			v.id = made.ID
			return err
		})
		if err == nil || !errors.Is(err, errBroken) {
			return err
		}
		switch r, err := v.inspect(ctx, v.name); {
		case errdefs.IsNotFound(err):
		case err != nil:
			return err
		case r.Config == nil || r.Config.Labels["life"] != v.name || r.State.Status != container.StateCreated:
			return fmt.Errorf("the kill left a container half made: %+v, %+v", r.Config, r.State)
		default:
			v.id = r.ID
			return nil
		}
	}
}

// start starts the container once. A broken call has started it or not: what
// it prints shows that it ran once.
func (v *life) start(ctx context.Context) error {
	for {
		err := v.do("start", func() error {
			_, err := v.client.ContainerStart(ctx, v.id, client.ContainerStartOptions{})
			return err
		})
		if err != nil && !errors.Is(err, errBroken) {
			return err
		}
		r, inspectErr := v.inspect(ctx, v.id)
		switch {
		case inspectErr != nil:
			return inspectErr
		case r.State.Status == container.StateRunning:
			return nil
		case err == nil || r.State.Status != container.StateCreated:
			return fmt.Errorf("it was started and is %+v", r.State)
		}
	}
}

// printsAll waits until all that a container prints at first is in its log.
func (v *life) printsAll(ctx context.Context) error {
	return harness.Until(ctx, 2*time.Minute, "all its lines are in the log", func() error {
		stdout, stderr, err := v.logs(ctx)
		if err != nil {
			return err
		}
		wantOut, wantErr := v.printed()
		if stdout != wantOut || stderr != wantErr {
			return fmt.Errorf("it printed %q and %q", stdout, stderr)
		}
		return nil
	})
}

// printed is what the container prints at first.
func (v *life) printed() (stdout, stderr string) {
	var o, e strings.Builder
	for i := range lines {
		fmt.Fprintf(&o, "%s %d\n", v.name, i)
		fmt.Fprintf(&e, "%s %d!\n", v.name, i)
	}
	return o.String(), e.String()
}

func (v *life) logs(ctx context.Context) (stdout, stderr string, err error) {
	var o, e bytes.Buffer
	err = v.insist("logs", func() error {
		o.Reset()
		e.Reset()
		r, err := v.client.ContainerLogs(ctx, v.id, client.ContainerLogsOptions{ShowStdout: true, ShowStderr: true})
		if err != nil {
			return err
		}
		defer r.Close()
		_, err = stdcopy.StdCopy(&o, &e, r)
		return err
	})
	return o.String(), e.String(), err
}

// exec runs a command in the container until no kill breaks it. One that a kill
// broke ran once or not at all.
func (v *life) exec(ctx context.Context) error {
	for {
		token := fmt.Sprintf("exec-%d", len(v.execs))
		v.execs[token] = false
		err := v.execOnce(ctx, token)
		if err == nil {
			v.execs[token] = true
		}
		if !errors.Is(err, errBroken) {
			return err
		}
	}
}

func (v *life) execOnce(ctx context.Context, token string) error {
	var made client.ExecCreateResult
	err := v.do("exec create", func() (err error) {
		made, err = v.client.ExecCreate(ctx, v.id, client.ExecCreateOptions{
			AttachStdout: true, AttachStderr: true,
			Cmd: []string{"sh", "-c", `echo "$0" >> /execs; echo "$0 out"; echo "$0 err" >&2; exit 7`, token},
		})
		return err
	})
	if err != nil {
		return err
	}
	err = v.do("exec", func() error {
		streams, err := v.client.ExecAttach(ctx, made.ID, client.ExecAttachOptions{})
		if err != nil {
			return err
		}
		defer streams.Close()
		var stdout, stderr bytes.Buffer
		_, err = stdcopy.StdCopy(&stdout, &stderr, streams.Reader)
		if err == nil && (stdout.String() != token+" out\n" || stderr.String() != token+" err\n") {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			err = fmt.Errorf("it printed %q and %q: %w", &stdout, &stderr, err)
		}
		return err
	})
	if err != nil {
		return err
	}
	return v.insist("exec inspect", func() error {
		r, err := v.client.ExecInspect(ctx, made.ID, client.ExecInspectOptions{})
		if err == nil && (r.Running || r.ExitCode != 7) {
			err = errdefs.ErrInternal.WithMessage(fmt.Sprintf("exec %s ended as %+v", token, r))
		}
		return err
	})
}

// stop ends the container, which exits by itself.
func (v *life) stop(ctx context.Context) error {
	return v.insist("stop", func() error {
		forever := -1
		_, err := v.client.ContainerStop(ctx, v.id, client.ContainerStopOptions{Timeout: &forever})
		return err
	})
}

// ended checks what a container that has exited says of itself.
func (v *life) ended(ctx context.Context) error {
	err := v.insist("wait", func() error {
		w := v.client.ContainerWait(ctx, v.id, client.ContainerWaitOptions{})
		select {
		case err := <-w.Error:
			return err
		case r := <-w.Result:
			if int(r.StatusCode) != v.code || r.Error != nil {
				return errdefs.ErrInternal.WithMessage(fmt.Sprintf("%+v instead of %d", r, v.code))
			}
			return nil
		}
	})
	if err != nil {
		return err
	}
	r, err := v.inspect(ctx, v.id)
	if err != nil {
		return err
	}
	if s := r.State; s.Status != container.StateExited || s.ExitCode != v.code || s.Error != "" || r.RestartCount != 0 {
		return fmt.Errorf("it is %+v, not exited with %d", s, v.code)
	}
	stdout, stderr, err := v.logs(ctx)
	if err != nil {
		return err
	}
	wantOut, wantErr := v.printed()
	ran, whole := strings.CutPrefix(stdout, wantOut)
	ran, ended := strings.CutSuffix(ran, "end\n")
	if !whole || !ended || stderr != wantErr {
		return fmt.Errorf("it printed %q and %q", stdout, stderr)
	}
	return v.checkExecs(strings.Fields(ran))
}

// checkExecs holds that each exec ran once, those that a kill broke at most once.
func (v *life) checkExecs(ran []string) error {
	times := map[string]int{}
	for _, token := range ran {
		times[token]++
	}
	for token, must := range v.execs {
		if n := times[token]; n > 1 || must && n != 1 {
			return fmt.Errorf("%s ran %d times", token, n)
		}
		delete(times, token)
	}
	if len(times) > 0 {
		return fmt.Errorf("it ran %v, which nobody asked for", times)
	}
	return nil
}

// remove removes the container, of which nothing is left then.
func (v *life) remove(ctx context.Context) error {
	for {
		err := v.do("remove", func() error {
			_, err := v.client.ContainerRemove(ctx, v.id, client.ContainerRemoveOptions{})
			return err
		})
		if err != nil && !errors.Is(err, errBroken) {
			return err
		}
		switch r, inspectErr := v.inspect(ctx, v.id); {
		case errdefs.IsNotFound(inspectErr):
			return nil
		case inspectErr != nil:
			return inspectErr
		case err == nil:
			return fmt.Errorf("it was removed and is %+v", r.State)
		}
	}
}

func (v *life) inspect(ctx context.Context, ref string) (container.InspectResponse, error) {
	var r client.ContainerInspectResult
	err := v.insist("inspect", func() (err error) {
		r, err = v.client.ContainerInspect(ctx, ref, client.ContainerInspectOptions{})
		return err
	})
	return r.Container, err
}
