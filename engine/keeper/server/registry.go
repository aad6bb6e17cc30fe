package server

import (
	"sync"

	"github.com/kelp-engine/kelp/engine/fault"
	"github.com/kelp-engine/kelp/engine/keeper"
	"github.com/kelp-engine/kelp/engine/keeper/stdio"
	"github.com/kelp-engine/kelp/engine/runtime"
)

// registry is the containers that the keeper runs, ran, or has clients for.
type registry struct {
	mu         sync.Mutex
	containers map[string]*container
	watchers   map[*watcher]struct{}
	// draining are the hubs, with their containers' ids, of processes that
	// have ended and whose clients have not read all output yet.
	draining map[*stdio.Hub]string
	ending   bool // the keeper is: nobody's output is waited for
}

// container is what is known under one container id. Its fields are guarded
// by registry.mu.
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
	oom  *runtime.OOMWatch // of a container with a memory limit's controller
	task keeper.Task       // guarded by registry.mu
}

func newRegistry() *registry {
	return &registry{containers: map[string]*container{}, watchers: map[*watcher]struct{}{}, draining: map[*stdio.Hub]string{}}
}

// lookup returns the container, made when missing.
//
// Preconditions: r.mu is held.
func (r *registry) lookup(id string) *container {
	c := r.containers[id]
	if c == nil {
		c = &container{id: id, execs: map[string]*process{}}
		r.containers[id] = c
	}
	return c
}

// prune removes a container of which nothing is left to know.
//
// Preconditions: r.mu is held.
func (r *registry) prune(c *container) {
	if !c.starting && c.init == nil && len(c.execs) == 0 && len(c.waiting) == 0 && r.containers[c.id] == c {
		delete(r.containers, c.id)
	}
}

// process returns the named process, running or ended.
//
// Preconditions: r.mu is held.
func (r *registry) process(ref keeper.Ref) (*process, error) {
	var p *process
	if c := r.containers[ref.Container]; c != nil {
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
func (r *registry) running(ref keeper.Ref) (*process, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p, err := r.process(ref)
	if err == nil && p.task.Status == keeper.Exited {
		return nil, fault.NotFound("the process has ended")
	}
	return p, err
}

// runtimeOf returns a container whose first process runs.
func (r *registry) runtimeOf(id string) (*runtime.Container, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.containers[id]
	if c == nil || c.rt == nil {
		return nil, fault.Conflict("container %s is not running", id)
	}
	return c.rt, nil
}

// beginStart claims the id for one start and takes the clients that wait.
func (r *registry) beginStart(id string) (*container, []*stdio.Client, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.lookup(id)
	if c.starting || c.rt != nil || (c.init != nil && c.init.task.Status != keeper.Exited) {
		return nil, nil, fault.Conflict("container %s is running already", id)
	}
	c.starting = true
	clients := c.waiting
	c.waiting = nil
	return c, clients, nil
}

// attachClient gives a process a client, or a container's next one.
func (r *registry) attachClient(client *stdio.Client, req *keeper.AttachRequest) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.lookup(req.Container)
	switch {
	case c.init != nil && (c.init.task.Status != keeper.Exited || !req.Next):
		c.init.hub.Attach(client)
	default:
		c.waiting = append(c.waiting, client)
	}
}

// forgetClient drops a client that left before its container started.
func (r *registry) forgetClient(id string, client *stdio.Client) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.containers[id]
	if c == nil {
		return
	}
	var rest []*stdio.Client
	for _, w := range c.waiting {
		if w != client {
			rest = append(rest, w)
		}
	}
	c.waiting = rest
	r.prune(c)
}

// publish tells every watcher of a task.
//
// Preconditions: r.mu is held.
func (r *registry) publish(task keeper.Task) {
	for w := range r.watchers {
		w.add(task)
	}
}

// all returns every task.
//
// Preconditions: r.mu is held.
func (r *registry) all() []keeper.Task {
	all := []keeper.Task{}
	for _, c := range r.containers {
		if c.init != nil {
			all = append(all, c.init.task)
		}
		for _, e := range c.execs {
			all = append(all, e.task)
		}
	}
	return all
}

// putBack lets clients wait for the next start after one that failed.
func (r *registry) putBack(c *container, clients []*stdio.Client) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c.waiting = append(clients, c.waiting...)
}

// mayExec says why a process cannot be executed in a container.
func (r *registry) mayExec(ref keeper.Ref) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, err := r.process(ref); err == nil {
		return fault.Conflict("exec %s was started already", ref.Exec)
	}
	if p, err := r.process(keeper.Ref{Container: ref.Container}); err == nil && p.task.Status == keeper.Paused {
		return fault.Conflict("container %s is paused, unpause the container before exec", ref.Container)
	}
	return nil
}

// drain notes that a process has ended whose clients have not read all of its
// output, and returns what waits until they have.
func (r *registry) drain(id string, hub *stdio.Hub) (wait func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.draining[hub] = id
	ending := r.ending
	return func() {
		if ending {
			hub.Abandon()
		}
		<-hub.Drained()
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.draining, hub)
	}
}

// abandon ends the clients of a container, or of all, that hold up the output
// of processes that have ended, and waits until that is in the log.
func (r *registry) abandon(id string) {
	r.mu.Lock()
	var hubs []*stdio.Hub
	for hub, of := range r.draining {
		if of == id || id == "" {
			hubs = append(hubs, hub)
		}
	}
	r.mu.Unlock()
	for _, hub := range hubs {
		hub.Abandon()
	}
}
