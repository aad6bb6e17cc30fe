package server

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/kelp-engine/kelp/engine/crashpoint"
	"github.com/kelp-engine/kelp/engine/fault"
	"github.com/kelp-engine/kelp/engine/keeper"
	"github.com/kelp-engine/kelp/engine/keeper/stdio"
	"github.com/kelp-engine/kelp/engine/logs/logfile"
	"github.com/kelp-engine/kelp/engine/runtime"
)

// start serves the operation of that name.
func (t *tasks) start(_ context.Context, call *call) (any, error) {
	var req keeper.StartRequest
	if err := call.decode(&req); err != nil {
		return nil, err
	}
	c, clients, err := t.beginStart(req.ID)
	if err != nil {
		return nil, err
	}
	started, err := t.startContainer(c, &req, clients)
	t.mu.Lock()
	defer t.mu.Unlock()
	c.starting = false
	if err == nil { // clients that came while it was starting
		for _, client := range c.waiting {
			if c.init == nil { // ended and forgotten already
				client.Leave()
				continue
			}
			c.init.hub.Attach(client)
		}
		c.waiting = nil
	}
	t.prune(c)
	return started, err
}

// startContainer runs the container; clients are attached from its first
// output on. When it fails they wait for the next start.
func (t *tasks) startContainer(c *container, req *keeper.StartRequest, clients []*stdio.Client) (_ keeper.Started, err error) {
	t.abandon(c.id) // two runs must not write one log
	log, err := openLog(req.Log)
	if err != nil {
		t.putBack(c, clients)
		return keeper.Started{}, err
	}
	hub := stdio.NewHub(stdio.Options{TTY: req.Stdio.TTY, StdinOnce: req.Stdio.StdinOnce, Log: log})
	for _, client := range clients {
		hub.Attach(client)
	}
	defer func() {
		if err != nil {
			t.putBack(c, hub.Discard())
		}
	}()
	if err := joinSandbox(t.nets, req); err != nil {
		return keeper.Started{}, err
	}
	files, err := stdio.Open(req.Stdio.TTY, req.Stdio.Stdin)
	if err != nil {
		return keeper.Started{}, err
	}
	rt, err := t.rt.Start(runtime.Config{
		ID: req.ID, Spec: req.Spec, Cgroup: req.Cgroup, SystemdCgroup: req.SystemdCgroup,
	}, processIO(files, req.Stdio))
	if err != nil {
		files.CloseAll()
		return keeper.Started{}, err
	}
	p := &process{hub: hub, p: rt.Process(), task: keeper.Task{
		Ref: keeper.Ref{Container: req.ID}, Started: identity(rt.Process()), Status: keeper.Running,
	}}
	if err := connect(hub, files); err != nil {
		return keeper.Started{}, errors.Join(err, rt.KillAll(), reap(rt))
	}
	crashpoint.Hit("keeper.start.created")
	// From here on the process counts: whatever happens to it is an exit.
	t.mu.Lock()
	c.rt, c.init = rt, p
	t.mu.Unlock()
	if p.oom = rt.OOMKills(); p.oom != nil {
		t.ended.Add(1)
		go t.watchOOM(p)
	}
	t.ended.Add(1)
	go t.await(c, p)
	crashpoint.Hit("keeper.start.known")
	if err := rt.Run(); err != nil {
		slog.Warn("a container's first process ended too early", "container", c.id, "error", err)
		_ = rt.KillAll()
	}
	return p.task.Started, nil
}

// openLog opens the container's log; nil keeps none.
func openLog(l keeper.Log) (stdio.Log, error) {
	if l.Driver == "none" || l.Driver == "" {
		return nil, nil
	}
	log, err := logfile.Open(logfile.Options{
		Driver: l.Driver, Path: l.Path, MaxSize: l.MaxSize, MaxFile: l.MaxFile, Compress: l.Compress, Attrs: l.Attrs,
	})
	if err != nil {
		return nil, err
	}
	if l.Buffer > 0 {
		return stdio.NewLossy(log, l.Buffer), nil
	}
	return log, nil
}

// joinSandbox makes the spec's network namespace that of the sandbox.
func joinSandbox(nets sandboxes, req *keeper.StartRequest) error {
	if req.Sandbox == "" {
		return nil
	}
	if req.Spec == nil || req.Spec.Linux == nil {
		return fault.InvalidArgument("the container's spec lacks its linux section")
	}
	if nets == nil {
		return fault.NotImplemented("this keeper has no networks")
	}
	path, err := nets.NetNS(req.Sandbox)
	if err != nil {
		return err
	}
	namespaces := slices.DeleteFunc(req.Spec.Linux.Namespaces, func(n specs.LinuxNamespace) bool {
		return n.Type == specs.NetworkNamespace
	})
	req.Spec.Linux.Namespaces = append(namespaces, specs.LinuxNamespace{Type: specs.NetworkNamespace, Path: path})
	return ownSysctls(nets, req)
}

// ownSysctls sets the network's settings of a container that cannot do that
// itself, because the sandbox is not of its own user namespace.
func ownSysctls(nets sandboxes, req *keeper.StartRequest) error {
	if !slices.ContainsFunc(req.Spec.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == specs.UserNamespace }) {
		return nil
	}
	net, rest := map[string]string{}, map[string]string{}
	for k, v := range req.Spec.Linux.Sysctl {
		if strings.HasPrefix(k, "net.") {
			net[k] = v
		} else {
			rest[k] = v
		}
	}
	req.Spec.Linux.Sysctl = rest
	return nets.Sysctls(req.Sandbox, net)
}

func processIO(f *stdio.Files, s keeper.Stdio) runtime.IO {
	return runtime.IO{
		Stdin: f.Stdin, Stdout: f.Stdout, Stderr: f.Stderr, Console: f.Console,
		Height: s.Height, Width: s.Width,
	}
}

// connect gives the hub the keeper's side of a started process's files.
func connect(hub *stdio.Hub, f *stdio.Files) error {
	f.CloseProcess()
	if f.ConsolePeer == nil {
		hub.Connect(f.Input, f.Output, f.Errors, nil)
		return nil
	}
	defer f.ConsolePeer.Close()
	terminal, err := runtime.ReceiveTerminal(f.ConsolePeer)
	if err != nil {
		return err
	}
	hub.Connect(nil, nil, nil, terminal)
	return nil
}

func identity(p *runtime.Process) keeper.Started {
	return keeper.Started{PID: p.PID, StartTime: p.StartTime, At: time.Now()}
}

// reap waits for a container that was killed before anybody knew it.
func reap(rt *runtime.Container) error {
	_, err := rt.Process().Wait()
	return errors.Join(err, rt.Destroy())
}

// exec serves the operation of that name. With a client it answers twice: when
// the process runs, and when the attachment is over.
func (t *tasks) exec(ctx context.Context, call *call) (any, error) {
	var req keeper.ExecRequest
	if err := call.decode(&req); err != nil {
		return nil, err
	}
	if req.Exec == "" || req.Process == nil {
		return nil, fault.InvalidArgument("an exec needs an id and a process")
	}
	hub := stdio.NewHub(stdio.Options{TTY: req.Stdio.TTY, StdinOnce: req.Stdio.StdinOnce, Hold: true})
	var client *stdio.Client
	if req.Attach != nil {
		var err error
		if client, err = newClient(call, req.Attach); err != nil {
			return nil, err
		}
		hub.Attach(client)
	}
	p, err := t.startExec(&req, hub)
	if err != nil {
		for _, client := range hub.Discard() {
			client.Release() // the engine tells it what went wrong
		}
		return nil, err
	}
	if client == nil {
		return p.task.Started, nil
	}
	if err := call.send(p.task.Started); err != nil {
		return nil, err
	}
	select {
	case <-client.Done():
		return keeper.AttachResult{Detached: client.Detached()}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (t *tasks) startExec(req *keeper.ExecRequest, hub *stdio.Hub) (*process, error) {
	rt, err := t.runtimeOf(req.Container)
	if err != nil {
		return nil, err
	}
	if err := t.mayExec(req.Ref); err != nil {
		return nil, err
	}
	files, err := stdio.Open(req.Stdio.TTY, req.Stdio.Stdin)
	if err != nil {
		return nil, err
	}
	rp, err := rt.Exec(req.Process, processIO(files, req.Stdio))
	if err != nil {
		files.CloseAll()
		return nil, err
	}
	p := &process{hub: hub, p: rp, task: keeper.Task{Ref: req.Ref, Started: identity(rp), Status: keeper.Running}}
	if err := connect(hub, files); err != nil {
		_, werr := rp.Kill()
		return nil, errors.Join(err, werr)
	}
	t.mu.Lock()
	c := t.lookup(req.Container)
	c.execs[req.Exec] = p
	t.mu.Unlock()
	t.ended.Add(1)
	go t.await(c, p)
	return p, nil
}
