package server

import (
	"context"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/kelp-engine/kelp/engine/fault"
	"github.com/kelp-engine/kelp/engine/keeper"
	"github.com/kelp-engine/kelp/engine/runtime"
)

// pause serves the operation of that name.
func (t *tasks) pause(_ context.Context, call *call) (any, error) {
	return nil, t.turn(call, keeper.Running, keeper.Paused, (*runtime.Container).Pause)
}

// resume serves the operation of that name.
func (t *tasks) resume(_ context.Context, call *call) (any, error) {
	return nil, t.turn(call, keeper.Paused, keeper.Running, (*runtime.Container).Resume)
}

// turn brings a container from one status to another.
func (t *tasks) turn(call *call, from, to keeper.Status, act func(*runtime.Container) error) error {
	var ref keeper.Ref
	if err := call.decode(&ref); err != nil {
		return err
	}
	rt, err := t.runtimeOf(ref.Container)
	if err != nil {
		return err
	}
	if err := t.setStatus(ref.Container, from, from); err != nil {
		return err
	}
	if err := act(rt); err != nil {
		return err
	}
	return t.setStatus(ref.Container, from, to)
}

// setStatus changes the status of a container that has the status from.
func (r *registry) setStatus(id string, from, to keeper.Status) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	p, err := r.process(keeper.Ref{Container: id})
	if err != nil {
		return err
	}
	if p.task.Status != from {
		return fault.Conflict("container %s is %s, not %s", id, p.task.Status, from)
	}
	p.task.Status = to
	return nil
}

// update serves the operation of that name.
func (t *tasks) update(_ context.Context, call *call) (any, error) {
	var req struct {
		keeper.Ref
		Resources specs.LinuxResources `json:"resources"`
	}
	if err := call.decode(&req); err != nil {
		return nil, err
	}
	rt, err := t.runtimeOf(req.Container)
	if err != nil {
		return nil, err
	}
	return nil, rt.Update(&req.Resources)
}

// processes serves the operation of that name.
func (t *tasks) processes(_ context.Context, call *call) (any, error) {
	rt, err := t.called(call)
	if err != nil {
		return nil, err
	}
	return rt.PIDs()
}

// stats serves the operation of that name.
func (t *tasks) stats(_ context.Context, call *call) (any, error) {
	rt, err := t.called(call)
	if err != nil {
		return nil, err
	}
	return rt.Stats()
}

// called returns the running container that a call is about.
func (t *tasks) called(call *call) (*runtime.Container, error) {
	var ref keeper.Ref
	if err := call.decode(&ref); err != nil {
		return nil, err
	}
	return t.runtimeOf(ref.Container)
}
