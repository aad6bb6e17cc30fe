package container

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/kelp-engine/kelp/engine/keeper"
)

// killedCode is the exit code of a container whose process is gone and whose
// end nobody saw: it went with its keeper, whose end kills it.
const killedCode = 128 + sigKill

// Recover brings records and processes into agreement after whatever ended
// the last engine: it takes up what runs, resolves every state in between and
// removes what belongs to nobody. What the restart policies want is started
// in the background. boot says that the keeper is a new one.
func (m *Manager) Recover(ctx context.Context, boot bool) error {
	docs, errs, err := m.store.All()
	if err != nil {
		return err
	}
	for id, err := range errs {
		slog.Error("cannot read a container's record; its files stay as they are", "id", id, "error", err)
	}
	tasks, err := m.o.initTasks(ctx)
	if err != nil {
		return err
	}
	rec := recovery{runner: m.runner, tasks: tasks, boot: boot}
	for _, r := range docs {
		if r.State != Creating {
			m.add(newContainer(r))
			m.o.NetUse.Adopt(r)
		}
	}
	for id, r := range docs {
		status := tasks[id].Status
		m.o.VolumeUse.Adopt(id, r.Mounts, status == keeper.Running || status == keeper.Paused)
	}
	if err := m.o.VolumeUse.Sweep(); err != nil {
		return err
	}
	for _, c := range m.All() {
		logFailure(c.Snapshot(), "rename the links", links{m.registry}.follow(c))
	}
	for id, r := range docs {
		if r.State == Creating {
			logFailure(r, "remove the half-made remains", errors.Join(m.o.discard(ctx, r, true), m.erase(r)))
			continue
		}
		rec.resolve(ctx, m.byExactID(id))
	}
	for _, c := range rec.restarts {
		m.restartIn(c, 0)
	}
	rec.removeStrangers(ctx, func(id string) bool { return docs[id] != nil || errs[id] != nil })
	m.bg.run(m.watch)
	for _, c := range rec.unfinished {
		m.bg.run(func(ctx context.Context) { rec.stopOn(ctx, c) })
	}
	return nil
}

// recovery resolves what an earlier engine left.
type recovery struct {
	*runner
	tasks map[string]keeper.Task // the containers' first processes
	boot  bool
	// restarts are to be started when every container's state is known: one
	// may wait for another.
	restarts []*Container
	// unfinished are to be stopped or restarted for a client, but run yet.
	unfinished []*Container
}

// initTasks are the containers' first processes that the keeper knows, by
// container.
func (o *Options) initTasks(ctx context.Context) (map[string]keeper.Task, error) {
	list, err := o.Tasks.Tasks(ctx)
	if err != nil {
		return nil, err
	}
	tasks := map[string]keeper.Task{}
	for _, t := range list {
		if t.Exec == "" {
			tasks[t.Container] = t
		}
	}
	return tasks, nil
}

// resolve brings one container out of the state that its engine left it in.
func (m *recovery) resolve(ctx context.Context, c *Container) {
	release, err := c.beginOp(ctx)
	if err != nil {
		return
	}
	defer release()
	r := c.Snapshot()
	switch {
	case r.State == Removing || r.State == Dead:
		logFailure(r, "go on removing the remains", m.remove(ctx, c, r.HostConfig.AutoRemove))
	case r.State.Running() || r.State == Starting:
		m.resolveRun(ctx, c, m.tasks[c.id])
	case r.State == Restarting:
		m.restarts = append(m.restarts, c)
	case r.StartAgain:
		m.startAgain(c)
	case r.HostConfig.AutoRemove && r.State == Exited:
		logFailure(r, "remove the remains", m.remove(ctx, c, true))
	case m.boot && restartsAtBoot(r):
		err := m.move(c, Restarting, process, func(r *Record) { r.StoppedByUser, r.RestartCount = false, 0 })
		logFailure(r, "begin the restart", err)
		if err == nil {
			m.restarts = append(m.restarts, c)
		}
	}
}

// resolveRun is resolve for a container that ran, or was about to.
func (m *recovery) resolveRun(ctx context.Context, c *Container, t keeper.Task) {
	r := c.Snapshot()
	switch {
	case t.Status == keeper.Running || t.Status == keeper.Paused:
		m.adopt(c, t)
		if c.Snapshot().Ending != nil {
			m.unfinished = append(m.unfinished, c)
		}
		return
	case t.Status == keeper.Exited:
		// The engine may have died before it wrote down which process it was.
		err := m.change(c, process, func(r *Record) {
			r.StartAgain = r.StartAgain && sameProcess(r.Process, t.Started)
			r.Process, r.StartedAt = t.Started, t.At
		})
		logFailure(r, "save the process", err)
		c.noteExit(t)
		m.finish(ctx, c, t)
	case r.State == Starting: // it never came to run
		m.o.free(ctx, r)
		if r.startedByPolicy() || r.StartAgain {
			m.startAgain(c)
			return
		}
		m.startFailed(ctx, c, errInterrupted)
	default:
		m.finish(ctx, c, keeper.Task{
			Ref: keeper.Ref{Container: c.id}, Started: r.Process,
			Status: keeper.Exited, ExitCode: killedCode, ExitedAt: time.Now(),
		})
	}
	if c.Snapshot().StartAgain {
		m.startAgain(c)
	}
}

// startAgain takes up a restart that was cut short behind the container's end;
// a client's only once, in case that it is what ends the engine.
func (m *recovery) startAgain(c *Container) {
	err := m.happened(c, Restarting, process, func(r *Record) {
		if r.StartAgain {
			r.StartAgain, r.StoppedByUser, r.RestartCount = false, false, 0
		}
	})
	logFailure(c.Snapshot(), "take the restart up again", err)
	m.restarts = append(m.restarts, c)
}

// stopOn carries on with a client's stop or restart that was cut short before
// the container had ended.
func (m *recovery) stopOn(ctx context.Context, c *Container) {
	release, err := c.beginOp(ctx)
	if err != nil {
		return
	}
	defer release()
	r := c.Snapshot()
	ending := cmp.Or(r.Ending, &Ending{}) // nil when the process has ended meanwhile
	switch {
	case m.isStopping():
	case r.StartAgain:
		err = restart(ctx, m.runner, c, ending.Signal, ending.left())
	case r.Ending != nil:
		err = m.stopWith(ctx, c, ending.Signal, ending.left(), false)
	}
	logFailure(r, "carry on with the stop", err)
}

// adopt takes up a process that runs, as if this engine had started it.
func (m *recovery) adopt(c *Container, t keeper.Task) {
	r := c.Snapshot()
	state := Running
	if t.Status == keeper.Paused {
		state = Paused
	}
	if r.State != state || !sameProcess(r.Process, t.Started) {
		err := m.move(c, state, process, func(r *Record) {
			if !sameProcess(r.Process, t.Started) {
				r.Process, r.StartedAt = t.Started, t.At
				r.ExitCode, r.OOMKilled, r.Error = 0, false, ""
				r.Health = initialHealth(r.Config)
				r.StartAgain, r.Ending = false, nil
			}
		})
		logFailure(r, "save the state", err)
	}
	m.watchHealth(c)
}

// removeStrangers ends processes and removes file systems that belong to no
// container: those of one whose removal or creation was cut short. Containers
// whose records cannot be read keep theirs.
func (m *recovery) removeStrangers(ctx context.Context, ours func(id string) bool) {
	for id := range m.tasks {
		if !ours(id) {
			slog.Warn("ending a process that belongs to no container", "id", id)
			m.o.killNow(ctx, &Record{ID: id, Name: id})
		}
	}
	ids, err := m.o.Images.RootFSIDs()
	if err != nil {
		slog.Error("cannot list the file systems of containers", "error", err)
		return
	}
	for _, id := range ids {
		if ours(id) {
			continue
		}
		slog.Warn("removing a file system that belongs to no container", "id", id)
		if err := m.o.Images.RemoveRootFS(id); err != nil {
			slog.Error("cannot remove the file system", "id", id, "error", err)
		}
	}
}
