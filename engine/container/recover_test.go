package container

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"

	"github.com/kelp-engine/kelp/engine/keeper"
)

// crash is a state that an engine left behind, and what must come of it.
type crash struct {
	name  string
	state State
	edit  func(*Record)
	task  *keeper.Task // what the keeper knows; nil is nothing
	boot  bool         // the keeper is a new one

	want     State // "" is gone
	code     int
	restarts int
}

func TestRecover(t *testing.T) {
	started := keeper.Started{PID: 4711, StartTime: 1, At: time.Now().Add(-time.Minute)}
	running := &keeper.Task{Started: started, Status: keeper.Running}
	exited := &keeper.Task{Started: started, Status: keeper.Exited, ExitCode: 5, ExitedAt: time.Now()}
	ran := func(r *Record) { r.Process, r.StartedAt = started, started.At }
	policy := func(name container.RestartPolicyMode, stopped bool) func(*Record) {
		return func(r *Record) {
			ran(r)
			h := *r.HostConfig
			h.RestartPolicy.Name = name
			r.HostConfig, r.StoppedByUser = &h, stopped
		}
	}
	autoRemove := func(r *Record) {
		ran(r)
		h := *r.HostConfig
		h.AutoRemove = true
		r.HostConfig = &h
	}
	again := func(r *Record) {
		autoRemove(r)
		r.StoppedByUser, r.StartAgain = true, true
	}
	for _, tt := range []crash{
		{name: "created", state: Created, want: Created},
		{name: "creating", state: Creating, want: ""},
		{name: "removing", state: Removing, want: ""},
		{name: "dead", state: Dead, want: ""},
		{name: "starting, process never made", state: Starting, want: Created, code: 128},
		{name: "starting again, process never made", state: Starting, edit: ran, want: Exited, code: 128},
		{name: "restart cut short", state: Starting, edit: policy("always", false), want: Running},
		{name: "restart after a failure cut short", state: Starting, edit: func(r *Record) {
			policy("on-failure", false)(r)
			r.RestartCount = 1
		}, want: Running, restarts: 1},
		{name: "start with on-failure cut short", state: Starting, edit: policy("on-failure", false), want: Exited, code: 128},
		{name: "starting, process runs", state: Starting, task: running, want: Running},
		{name: "starting, process ran and ended", state: Starting, task: exited, want: Exited, code: 5},
		{name: "running", state: Running, edit: ran, task: running, want: Running},
		{name: "running, frozen", state: Running, edit: ran, task: &keeper.Task{Started: started, Status: keeper.Paused}, want: Paused},
		{name: "paused, goes on", state: Paused, edit: ran, task: running, want: Running},
		{name: "running, ended meanwhile", state: Running, edit: ran, task: exited, want: Exited, code: 5},
		{name: "running, keeper died", state: Running, edit: ran, boot: true, want: Exited, code: 137},
		{name: "paused, keeper died", state: Paused, edit: ran, boot: true, want: Exited, code: 137},
		{name: "stopping, still runs", state: Stopping, edit: ran, task: running, want: Running},
		{name: "stopping, ended", state: Stopping, edit: ran, task: exited, want: Exited, code: 5},
		{name: "auto-remove, ended meanwhile", state: Running, edit: autoRemove, task: exited, want: ""},
		{name: "auto-remove, keeper died", state: Running, edit: autoRemove, boot: true, want: ""},
		{name: "auto-remove, ended and saved", state: Exited, edit: autoRemove, want: ""},
		{name: "always, ended meanwhile", state: Running, edit: policy("always", false), task: exited, want: Running, restarts: 1},
		{name: "always, stop cut short", state: Stopping, edit: policy("always", true), task: exited, want: Exited, code: 5},
		{name: "client's restart, ended", state: Stopping, edit: again, task: exited, want: Running},
		{name: "client's restart, keeper died", state: Stopping, edit: again, boot: true, want: Running},
		{name: "client's restart, at rest", state: Exited, edit: again, want: Running},
		{name: "client's restart, process never made", state: Starting, edit: again, want: Running},
		{name: "restarting", state: Restarting, edit: policy("always", false), want: Running},
		{name: "always, at rest, same keeper", state: Exited, edit: policy("always", true), want: Exited},
		{name: "always, stopped, new keeper", state: Exited, edit: policy("always", true), boot: true, want: Running},
		{name: "unless-stopped, stopped, new keeper", state: Exited, edit: policy("unless-stopped", true), boot: true, want: Exited},
		{name: "unless-stopped, shut down, new keeper", state: Exited, edit: policy("unless-stopped", false), boot: true, want: Running},
		{name: "on-failure, at rest, new keeper", state: Exited, edit: policy("on-failure", false), boot: true, want: Exited},
		{name: "always, never started, new keeper", state: Created, edit: func(r *Record) {
			h := *r.HostConfig
			h.RestartPolicy.Name = "always"
			r.HostConfig = &h
		}, boot: true, want: Created},
	} {
		t.Run(tt.name, func(t *testing.T) { tt.run(t) })
	}
}

func (tt *crash) run(t *testing.T) {
	w := newWorld(t)
	old := w.manager(true)
	id := w.create(old, "c1", nil)
	c, err := old.Find(id)
	w.check(err)
	w.check(old.Close())
	w.check(old.move(c, tt.state, process, tt.edit))
	ref := keeper.Ref{Container: id}
	if tt.task != nil {
		task := *tt.task
		task.Ref = ref
		w.keeper.tasks[ref] = task
	}

	m := w.manager(tt.boot)
	if tt.want == "" {
		if len(m.All()) != 0 || w.onDisk(id) != nil || len(w.store.rootfs) != 0 {
			t.Errorf("it is not gone: %+v, %v", w.onDisk(id), w.store.rootfs)
		}
		w.create(m, "c1", nil) // its name is free
		return
	}
	r := w.await(m, id, tt.want)
	if r.ExitCode != tt.code || r.RestartCount != tt.restarts {
		t.Errorf("exit code %d, %d restarts; want %d, %d", r.ExitCode, r.RestartCount, tt.code, tt.restarts)
	}
	if disk := w.onDisk(id); disk.State != tt.want || disk.ExitCode != tt.code {
		t.Errorf("on disk it is %s with code %d", disk.State, disk.ExitCode)
	}
	if _, known := w.keeper.tasks[ref]; known != tt.want.Running() {
		t.Errorf("the keeper knows it: %v", known)
	}
	if tt.want.Running() {
		w.check(unpaused(m, id))
		w.check(m.Stop(t.Context(), id, StopOptions{})) // it is whole
	}
}

// A stop that the next engine carries on kills when the client wanted, not when
// the container's own timeout, which is none here, would have it.
func TestRecoverKeepsTheTimeOfAStop(t *testing.T) {
	for name, left := range map[string]time.Duration{"an hour": time.Hour, "none": 0, "for ever": -1} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.keeper.deaf = true
			old := w.manager(true)
			id := w.create(old, "c1", func(r *container.CreateRequest) { r.StopTimeout = new(int) })
			w.check(old.Start(t.Context(), id))
			c, err := old.Find(id)
			w.check(err)
			w.check(old.Close())
			w.check(old.move(c, Stopping, process, func(r *Record) { r.StoppedByUser, r.Ending = true, newEnding(sigTerm, left) }))

			m := w.manager(false)
			want, code := []int{sigTerm, sigKill}, 128+sigKill
			if left != 0 {
				want, code = []int{sigTerm}, 7
				for w.keeper.signalled() == 0 {
					time.Sleep(time.Millisecond)
				}
				w.keeper.exit(keeper.Ref{Container: id}, code)
			}
			if r := w.await(m, id, Exited); r.ExitCode != code || !slices.Equal(w.keeper.signals, want) {
				t.Errorf("exit code %d after the signals %v, want %d and %v", r.ExitCode, w.keeper.signals, code, want)
			}
			if r := w.onDisk(id); r.Ending != nil {
				t.Errorf("on disk it is still ending: %+v", r.Ending)
			}
		})
	}
}

// unpaused lets a container go on that may be paused.
func unpaused(m *Manager, id string) error {
	c, err := m.Find(id)
	if err == nil && c.Snapshot().State == Paused {
		err = m.Unpause(context.Background(), id)
	}
	return err
}

func TestRecoverRemovesWhatIsNobodys(t *testing.T) {
	w := newWorld(t)
	w.store.set("stranger", true)
	stray := w.keeper.run(keeper.Ref{Container: "stray"})
	w.manager(false)
	if len(w.store.rootfs) != 0 || len(w.keeper.tasks) != 0 {
		t.Errorf("left: file systems %v, process %v of %v", w.store.rootfs, w.keeper.tasks, stray)
	}
}

// A record that cannot be read is neither lost nor in the way.
func TestRecoverKeepsWhatItCannotRead(t *testing.T) {
	w := newWorld(t)
	m := w.manager(false)
	id := w.create(m, "c1", nil)
	w.check(m.Close())
	file := filepath.Join(w.dir, id, "container.json")
	w.check(os.WriteFile(file, []byte(`{"schema":99,"data":{}}`), 0o600))
	_ = os.Remove(file + ".recent")
	m = w.manager(false)
	if len(m.All()) != 0 || !w.store.rootfs[id] {
		t.Errorf("containers %v, file systems %v", m.All(), w.store.rootfs)
	}
	if _, err := os.Stat(file); err != nil {
		t.Error(err)
	}
}

func TestStopAllAndTheNextBoot(t *testing.T) {
	w := newWorld(t)
	m := w.manager(true)
	for _, p := range []container.RestartPolicyMode{"no", "always", "unless-stopped"} {
		w.create(m, string(p), func(r *container.CreateRequest) { r.HostConfig.RestartPolicy.Name = p })
		w.check(m.Start(t.Context(), string(p)))
	}
	w.check(m.StopAll(t.Context()))
	for _, c := range m.All() {
		if r := c.Snapshot(); r.State != Exited || r.StoppedByUser {
			t.Errorf("%s: %s, stopped by user: %v", r.Name, r.State, r.StoppedByUser)
		}
	}
	w.check(m.Close())
	m = w.manager(true)
	w.await(m, "no", Exited)
	w.await(m, "always", Running)
	w.await(m, "unless-stopped", Running)
}

// The record's form on disk may grow, but what was written once must be read.
func TestGoldenRecord(t *testing.T) {
	golden, err := os.ReadFile("testdata/container-v1.json")
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t)
	const id = "1111111111111111111111111111111111111111111111111111111111111111"
	w.check(os.Mkdir(filepath.Join(w.dir, id), 0o700))
	w.check(os.WriteFile(filepath.Join(w.dir, id, "container.json"), golden, 0o600))
	m := w.manager(false)
	i, err := m.Inspect("/golden", false)
	w.check(err)
	if i.ID != id || i.State.ExitCode != 3 || i.State.Status != "exited" || i.Path != "sh" || i.Args[1] != "exit 3" ||
		i.HostConfig.RestartPolicy.MaximumRetryCount != 2 || i.RestartCount != 2 || i.Mounts[0].Destination != "/data" ||
		i.Config.Labels["a"] != "b" || i.State.FinishedAt != "2026-11-21T09:00:02Z" {
		t.Errorf("%+v\n%+v", i, i.State)
	}
}

// An engine may die when a container is renamed and the links to it are not.
func TestRecoverRenamesLinks(t *testing.T) {
	w := newWorld(t)
	m := w.manager(false)
	id := w.create(m, "db", nil)
	linked := func(r *container.CreateRequest) {
		r.HostConfig.NetworkMode = "bridge"
		r.HostConfig.Links = []string{"db:data"}
	}
	parents := []string{w.create(m, "p1", linked), w.create(m, "p2", linked)}
	c, err := m.Find(id)
	w.check(err)
	w.check(m.Close())
	w.check(m.change(c, power, func(r *Record) { r.Name, r.FormerName = "store", "db" }))

	m = w.manager(false)
	for _, p := range parents {
		if l := w.onDisk(p).HostConfig.Links; len(l) != 1 || l[0] != "store:data" {
			t.Errorf("links on disk: %q", l)
		}
	}
	if r := w.onDisk(id); r.FormerName != "" {
		t.Errorf("on disk it still has the name %q", r.FormerName)
	}
	for _, ref := range []string{"p1/data", "store"} {
		if c, err := m.Find(ref); err != nil || c.id != id {
			t.Errorf("%s is %v, %v", ref, c, err)
		}
	}
	w.create(m, "db", nil) // free again
	w.check(m.Rename(t.Context(), "store", "third"))
	if l := w.onDisk(parents[0]).HostConfig.Links; l[0] != "third:data" {
		t.Errorf("links after another rename: %q", l)
	}
	w.create(m, "store", nil)
}
