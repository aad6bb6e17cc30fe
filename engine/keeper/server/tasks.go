package server

import (
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/containerd/errdefs"

	"github.com/kelp-engine/kelp/engine/keeper"
	"github.com/kelp-engine/kelp/engine/runtime"
)

// tasks runs containers.
type tasks struct {
	*registry
	rt    *runtime.Runtime
	nets  sandboxes
	ended sync.WaitGroup // one for each process that runs
}

// sandboxes are the network sandboxes that containers join.
type sandboxes interface {
	// NetNS returns a path of the sandbox's network namespace.
	NetNS(sandbox string) (string, error)
	// Sysctls sets kernel settings of the sandbox's network namespace.
	Sysctls(sandbox string, settings map[string]string) error
}

func newTasks(rt *runtime.Runtime) *tasks {
	return &tasks{rt: rt, registry: newRegistry()}
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
	if p.task.Exec == "" {
		t.cleanUp(c, p)
	}
	if !p.hub.Exited() {
		t.ended.Go(t.drain(c.id, p.hub)) // known before the next start, which may follow the exit at once
	}
	defer p.hub.Release()
	t.mu.Lock()
	defer t.mu.Unlock()
	p.task.Status, p.task.ExitCode, p.task.ExitedAt = keeper.Exited, code, at
	t.publish(p.task)
}

// cleanUp removes what is left of a container whose first process p has ended.
func (t *tasks) cleanUp(c *container, p *process) {
	t.mu.Lock()
	rt := c.rt
	c.rt = nil
	t.mu.Unlock()
	if p.oom != nil {
		if p.oom.Killed() {
			t.noteOOM(p)
		}
		p.oom.Close()
	}
	if err := rt.Destroy(); err != nil {
		slog.Warn("cannot remove what is left of a container", "container", c.id, "error", err)
	}
}

// watchOOM tells everybody when a process of the container is killed for lack
// of memory, until the container has ended.
func (t *tasks) watchOOM(p *process) {
	defer t.ended.Done()
	for p.oom.Wait() {
		t.noteOOM(p)
	}
}

func (t *tasks) noteOOM(p *process) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if p.task.OOMKilled || p.task.Status == keeper.Exited {
		return
	}
	p.task.OOMKilled = true
	t.publish(p.task)
}

// stopAll kills every process and waits until each has ended.
func (t *tasks) stopAll() {
	t.mu.Lock()
	t.ending = true
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
	t.abandon("")
	t.ended.Wait()
}
