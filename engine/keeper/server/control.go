package server

import (
	"context"

	"golang.org/x/sys/unix"

	"github.com/kelp-engine/kelp/engine/fault"
	"github.com/kelp-engine/kelp/engine/keeper"
)

// ops are the operations on processes.
func (t *tasks) ops() map[string]op {
	return map[string]op{
		"start":  t.start,
		"exec":   t.exec,
		"attach": t.attach,
		"signal": t.signal,
		"resize": t.resize,
		"task":   t.get,
		"tasks":  t.list,
		"watch":  t.watch,
		"forget": t.forget,

		"pause":     t.pause,
		"resume":    t.resume,
		"update":    t.update,
		"processes": t.processes,
		"stats":     t.stats,
	}
}

// signal serves the operation of that name.
func (t *tasks) signal(_ context.Context, call *call) (any, error) {
	var req struct {
		keeper.Ref
		Signal int  `json:"signal"`
		All    bool `json:"all"`
	}
	if err := call.decode(&req); err != nil {
		return nil, err
	}
	if req.Signal < 1 || req.Signal > 64 {
		return nil, fault.InvalidArgument("invalid signal: %d", req.Signal)
	}
	if req.All {
		rt, err := t.runtimeOf(req.Container)
		if err != nil {
			return nil, err
		}
		return nil, rt.SignalAll(unix.Signal(req.Signal))
	}
	p, err := t.running(req.Ref)
	if err != nil {
		return nil, err
	}
	return nil, p.p.Signal(unix.Signal(req.Signal))
}

// resize serves the operation of that name.
func (t *tasks) resize(_ context.Context, call *call) (any, error) {
	var req struct {
		keeper.Ref
		Height uint16 `json:"height"`
		Width  uint16 `json:"width"`
	}
	if err := call.decode(&req); err != nil {
		return nil, err
	}
	p, err := t.running(req.Ref)
	if err != nil {
		return nil, err
	}
	return nil, p.hub.Resize(req.Height, req.Width)
}

// get serves the operation task.
func (r *registry) get(_ context.Context, call *call) (any, error) {
	var ref keeper.Ref
	if err := call.decode(&ref); err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	p, err := r.process(ref)
	if err != nil {
		return nil, err
	}
	return p.task, nil
}

// list serves the operation tasks.
func (r *registry) list(context.Context, *call) (any, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.all(), nil
}

// forget serves the operation of that name.
func (r *registry) forget(_ context.Context, call *call) (any, error) {
	var ref keeper.Ref
	if err := call.decode(&ref); err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.containers[ref.Container]
	if c == nil {
		return nil, notFound(ref)
	}
	defer r.prune(c)
	p, err := r.process(ref)
	switch {
	case err != nil && (ref.Exec != "" || len(c.waiting) == 0):
		return nil, err
	case err != nil: // nothing ran and nothing will
		for _, w := range c.waiting {
			w.Leave()
		}
		c.waiting = nil
	case p.task.Status != keeper.Exited:
		return nil, fault.Conflict("the process still runs")
	case ref.Exec != "":
		delete(c.execs, ref.Exec)
	default:
		c.init = nil
	}
	return nil, nil
}
