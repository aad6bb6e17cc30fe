package server

import (
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/containerd/errdefs"

	"github.com/kelp-engine/kelp/engine/fault"
	"github.com/kelp-engine/kelp/engine/keeper"
	"github.com/kelp-engine/kelp/engine/keeper/stdio"
	"github.com/kelp-engine/kelp/engine/runtime"
)

// tasks are the containers that the keeper runs, ran, or has clients for.
type tasks struct {
	rt   *runtime.Runtime
	nets sandboxes

	mu         sync.Mutex
	containers map[string]*container
	watchers   map[*watcher]struct{}
	ended      sync.WaitGroup // one for each process that runs
}

// sandboxes are the network sandboxes that containers join.
type sandboxes interface {
	// NetNS returns a path of the sandbox's network namespace.
	NetNS(sandbox string) (string, error)
}

// container is what is known under one container id. Its fields are guarded
// by tasks.mu.
type container struct {
	id       string
	starting bool
	rt       *runtime.Container  // nil unless its first process runs
	init     *process            // nil before the first start and when forgotten
	execs    map[string]*process // by exec id
	waiting  []*stdio.Client     // for the next start
}

// process is a process that runs or ran.
type process struct {
	hub  *stdio.Hub
	p    *runtime.Process
	task keeper.Task // guarded by tasks.mu
}

func newTasks(rt *runtime.Runtime) *tasks {
	return &tasks{rt: rt, containers: map[string]*container{}, watchers: map[*watcher]struct{}{}}
}

// lookup returns the container, made when missing.
//
// Preconditions: t.mu is held.
func (t *tasks) lookup(id string) *container {
	c := t.containers[id]
	if c == nil {
		c = &container{id: id, execs: map[string]*process{}}
		t.containers[id] = c
	}
	return c
}

// prune removes a container of which nothing is left to know.
//
// Preconditions: t.mu is held.
func (t *tasks) prune(c *container) {
	if !c.starting && c.init == nil && len(c.execs) == 0 && len(c.waiting) == 0 && t.containers[c.id] == c {
		delete(t.containers, c.id)
	}
}

// process returns the named process, running or ended.
//
// Preconditions: t.mu is held.
func (t *tasks) process(ref keeper.Ref) (*process, error) {
	var p *process
	if c := t.containers[ref.Container]; c != nil {
		if p = c.init; ref.Exec != "" {
			p = c.execs[ref.Exec]
		}
	}
	if p == nil {
		return nil, notFound(ref)
	}
	return p, nil
}

func notFound(ref keeper.Ref) error {
	if ref.Exec != "" {
		return fault.NotFound("the keeper knows no exec %s in container %s", ref.Exec, ref.Container)
	}
	return fault.NotFound("the keeper runs no container %s", ref.Container)
}

// running returns the named process if it runs.
func (t *tasks) running(ref keeper.Ref) (*process, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	p, err := t.process(ref)
	if err == nil && p.task.Status == keeper.Exited {
		return nil, fault.NotFound("the process has ended")
	}
	return p, err
}

// runningContainer returns a container whose first process runs, and that
// process.
func (t *tasks) runningContainer(id string) (*container, *runtime.Container, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.containers[id]
	if c == nil || c.rt == nil {
		return nil, nil, fault.Conflict("container %s is not running", id)
	}
	return c, c.rt, nil
}

// await waits for a process to end, sees to its output and tells everybody.
func (t *tasks) await(c *container, p *process) {
	defer t.ended.Done()
	code, err := p.p.Wait()
	if err != nil {
		slog.Error("lost a process's exit code", "container", c.id, "exec", p.task.Exec, "error", err)
		code = 255
	}
	at := time.Now()
	p.hub.Exited()
	if p.task.Exec == "" {
		t.mu.Lock()
		rt := c.rt
		c.rt = nil
		t.mu.Unlock()
		if err := rt.Destroy(); err != nil {
			slog.Warn("cannot remove what is left of a container", "container", c.id, "error", err)
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	p.task.Status, p.task.ExitCode, p.task.ExitedAt = keeper.Exited, code, at
	t.publish(p.task)
}

// stopAll kills every process and waits until each has ended.
func (t *tasks) stopAll() {
	t.mu.Lock()
	for _, c := range t.containers {
		for _, w := range c.waiting {
			w.Leave()
		}
		if c.rt == nil {
			continue
		}
		if err := c.rt.KillAll(); err != nil && !errors.Is(err, errdefs.ErrNotFound) {
			slog.Warn("cannot kill a container", "container", c.id, "error", err)
		}
	}
	t.mu.Unlock()
	t.ended.Wait()
}
