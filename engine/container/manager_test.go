package container

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"

	"github.com/kelp-engine/kelp/engine/events"
	"github.com/kelp-engine/kelp/engine/fault"
	"github.com/kelp-engine/kelp/engine/keeper"
)

func dup(f *os.File) *os.File {
	fd, err := syscall.Dup(int(f.Fd()))
	if err != nil {
		panic(err)
	}
	return os.NewFile(uintptr(fd), "dup")
}

func TestLifecycle(t *testing.T) {
	w := newWorld(t)
	m := w.manager(true)
	ctx := t.Context()
	id := w.create(m, "web", nil)
	ref := keeper.Ref{Container: id}

	if r := w.onDisk(id); r == nil || r.State != Created || r.Name != "web" {
		t.Fatalf("on disk after create: %+v", r)
	}
	w.check(m.Start(ctx, "web"))
	if err := m.Start(ctx, id[:7]); !errdefs.IsNotModified(err) {
		t.Errorf("a second start: %v", err)
	}
	if r := w.onDisk(id); r.State != Running || r.Process.PID == 0 || !w.store.isMounted(id) {
		t.Errorf("on disk after start: %+v", r)
	}
	w.check(m.Pause(ctx, "/web"))
	if err := m.Start(ctx, "web"); !errdefs.IsConflict(err) {
		t.Errorf("start of a paused container: %v", err)
	}
	w.check(m.Unpause(ctx, "web"))
	if err := m.Remove(ctx, "web", RemoveOptions{}); !errdefs.IsConflict(err) || !strings.Contains(err.Error(), "docker rm -f") {
		t.Errorf("remove of a running container: %v", err)
	}
	w.keeper.exit(ref, 7)
	if r := w.await(m, "web", Exited); r.ExitCode != 7 || r.FinishedAt.IsZero() || w.store.isMounted(id) {
		t.Errorf("after the exit: %+v, mounted: %v", r, w.store.isMounted(id))
	}
	if err := m.Stop(ctx, "web", StopOptions{}); !errdefs.IsNotModified(err) {
		t.Errorf("stop of an exited container: %v", err)
	}
	if err := m.Kill(ctx, "web", ""); !errdefs.IsConflict(err) {
		t.Errorf("kill of an exited container: %v", err)
	}
	w.check(m.Remove(ctx, "web", RemoveOptions{}))
	if _, err := m.Find("web"); !errdefs.IsNotFound(err) || err.Error() != "No such container: web" {
		t.Errorf("after remove: %v", err)
	}
	if r := w.onDisk(id); r != nil || len(w.store.rootfs) != 0 {
		t.Errorf("left on disk: %+v, file systems %v", r, w.store.rootfs)
	}
}

func TestCreateFillsInAndRefuses(t *testing.T) {
	w := newWorld(t)
	m := w.manager(true)
	id := w.create(m, "", func(r *container.CreateRequest) { r.Env = []string{"A=mine"} })
	r := w.onDisk(id)
	if !validName.MatchString(r.Name) || r.Config.Hostname != id[:12] || !slices.Equal(r.Config.Env, []string{"A=mine", "PATH=/bin"}) ||
		r.Config.Labels["from"] != "image" || len(r.Config.ExposedPorts) != 1 || r.HostConfig.RestartPolicy.Name != "no" {
		t.Errorf("record %+v, config %+v", r, r.Config)
	}
	for _, tt := range []struct {
		name, container string
		edit            func(*container.CreateRequest)
		want            func(error) bool
		text            string
	}{
		{"name taken", r.Name, nil, errdefs.IsConflict, "You have to remove (or rename) that container"},
		{"bad name", "-x", nil, errdefs.IsInvalidArgument, "Invalid container name (-x), only"},
		{"no such image", "", func(r *container.CreateRequest) { r.Image = "nope" }, errdefs.IsNotFound, "No such image: nope"},
		{"no configuration", "", func(r *container.CreateRequest) { r.Config = nil }, errdefs.IsInvalidArgument, ""},
		{"auto-remove and restart", "", func(r *container.CreateRequest) {
			r.HostConfig.AutoRemove, r.HostConfig.RestartPolicy.Name = true, "always"
		}, errdefs.IsInvalidArgument, ""},
		{"restart policy", "", func(r *container.CreateRequest) { r.HostConfig.RestartPolicy.Name = "often" }, errdefs.IsInvalidArgument, ""},
		{"log driver", "", func(r *container.CreateRequest) { r.HostConfig.LogConfig.Type = "syslog" }, errdefs.IsInvalidArgument, "no log driver named 'syslog'"},
		{"null in a list", "", func(r *container.CreateRequest) {
			r.HostConfig.Ulimits = []*container.Ulimit{nil}
		}, errdefs.IsInvalidArgument, "an entry of Ulimits is null"},
		{"health check", "", func(r *container.CreateRequest) {
			r.Healthcheck = &container.HealthConfig{Test: []string{"CMD"}}
		}, errdefs.IsInvalidArgument, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			req := container.CreateRequest{Config: &container.Config{Image: "busybox"}, HostConfig: &container.HostConfig{NetworkMode: "none"}}
			if tt.edit != nil {
				tt.edit(&req)
			}
			_, _, err := m.Create(t.Context(), tt.container, req)
			if !tt.want(err) || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("%v", err)
			}
			if len(m.All()) != 1 || len(w.store.rootfs) != 1 {
				t.Errorf("it left something behind")
			}
		})
	}
}

func TestStartThatFails(t *testing.T) {
	for text, code := range map[string]int{
		`exec: "nope": executable file not found in $PATH`: 127,
		"exec /etc/passwd: permission denied":              126,
		"no space left on device":                          128,
	} {
		w := newWorld(t)
		m := w.manager(true)
		id := w.create(m, "c1", nil)
		gone := w.create(m, "gone", func(r *container.CreateRequest) { r.HostConfig.AutoRemove = true })
		w.keeper.startErr = fault.InvalidArgument("%s", text)
		if err := m.Start(t.Context(), "c1"); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), text) {
			t.Errorf("start: %v", err)
		}
		if r := w.onDisk(id); r.State != Created || r.ExitCode != code || r.Error == "" || w.store.isMounted(id) {
			t.Errorf("%s: on disk: %+v", text, r)
		}
		if err := m.Start(t.Context(), "gone"); err == nil {
			t.Error("it started")
		}
		if r := w.onDisk(gone); r != nil {
			t.Errorf("auto-remove left %+v", r)
		}
	}
}

func TestWait(t *testing.T) {
	w := newWorld(t)
	m := w.manager(true)
	id := w.create(m, "c1", nil)
	result := func(cond container.WaitCondition) <-chan int {
		wait, err := m.Wait("c1", cond)
		w.check(err)
		code := make(chan int, 1)
		go func() {
			n, _, _ := wait.Result(t.Context())
			code <- n
		}()
		return code
	}
	if got := <-result(container.WaitConditionNotRunning); got != 0 {
		t.Errorf("a created container does not run; its code is %d", got)
	}
	next, removed := result(container.WaitConditionNextExit), result(container.WaitConditionRemoved)
	select {
	case <-next:
		t.Error("the next exit came before the start")
	case <-time.After(20 * time.Millisecond):
	}
	w.check(m.Start(t.Context(), "c1"))
	rests := result("")
	w.keeper.exit(keeper.Ref{Container: id}, 3)
	if a, b := <-next, <-rests; a != 3 || b != 3 {
		t.Errorf("next exit %d, not running %d", a, b)
	}
	w.check(m.Remove(t.Context(), "c1", RemoveOptions{}))
	if got := <-removed; got != 3 {
		t.Errorf("removed %d", got)
	}
	if _, err := m.Wait("c1", ""); !errdefs.IsNotFound(err) {
		t.Errorf("%v", err)
	}
}

func TestStopAsksThenKills(t *testing.T) {
	w := newWorld(t)
	m := w.manager(true)
	w.keeper.deaf = true
	zero := 0
	id := w.create(m, "c1", func(r *container.CreateRequest) { r.StopSignal = "SIGUSR1" })
	w.check(m.Start(t.Context(), "c1"))
	w.check(m.Stop(t.Context(), "c1", StopOptions{Timeout: &zero}))
	if !slices.Equal(w.keeper.signals, []int{int(syscall.SIGUSR1), sigKill}) {
		t.Errorf("signals %v", w.keeper.signals)
	}
	if r := w.onDisk(id); r.State != Exited || r.ExitCode != 137 || !r.StoppedByUser {
		t.Errorf("on disk: %+v", r)
	}
}

func TestPauseWhoseClientLeaves(t *testing.T) {
	w := newWorld(t)
	m := w.manager(true)
	id := w.create(m, "c1", nil)
	w.check(m.Start(t.Context(), "c1"))
	ctx, leave := context.WithCancel(t.Context())
	w.keeper.pausing = leave
	_ = m.Pause(ctx, "c1") // nobody hears the answer
	if r := w.onDisk(id); r.State != Paused {
		t.Errorf("the container is paused and its record says %s", r.State)
	}
	w.check(m.Unpause(t.Context(), "c1"))
}

func TestStopTimeouts(t *testing.T) {
	long, never, own := 1<<60, -1, 7
	for _, tt := range []struct {
		name              string
		asked, containers *int
		want              time.Duration
	}{
		{"nobody says", nil, nil, defaultStopTimeout},
		{"the container's", nil, &own, 7 * time.Second},
		{"the client's first", &own, &long, 7 * time.Second},
		{"more seconds than a duration has", &long, nil, 9223372036 * time.Second},
		{"never", &never, nil, -time.Second},
	} {
		_, got, err := StopOptions{Timeout: tt.asked}.of(&Record{Config: &container.Config{StopTimeout: tt.containers}})
		if err != nil || got != tt.want {
			t.Errorf("%s: %v, %v; want %v", tt.name, got, err, tt.want)
		}
	}
}

// A kill and a forced removal come through while a stop waits.
func TestKillDuringStop(t *testing.T) {
	w := newWorld(t)
	m := w.manager(true)
	w.keeper.deaf = true
	minute := 60
	w.create(m, "c1", nil)
	w.check(m.Start(t.Context(), "c1"))
	stopped := make(chan error)
	go func() { stopped <- m.Stop(context.WithoutCancel(t.Context()), "c1", StopOptions{Timeout: &minute}) }()
	w.await(m, "c1", Stopping)
	w.check(m.Remove(t.Context(), "c1", RemoveOptions{Force: true}))
	if err := <-stopped; err != nil {
		t.Errorf("stop: %v", err)
	}
	if len(m.All()) != 0 {
		t.Error("it is still there")
	}
}

func TestRestartPolicies(t *testing.T) {
	for _, tt := range []struct {
		name   string
		policy container.RestartPolicy
		code   int
		starts int // 0 is without end
	}{
		{"no", container.RestartPolicy{}, 1, 1},
		{"on-failure after success", container.RestartPolicy{Name: "on-failure"}, 0, 1},
		{"on-failure:2", container.RestartPolicy{Name: "on-failure", MaximumRetryCount: 2}, 1, 3},
		{"always", container.RestartPolicy{Name: "always"}, 0, 0},
		{"unless-stopped", container.RestartPolicy{Name: "unless-stopped"}, 0, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			m := w.manager(true)
			id := w.create(m, "c1", func(r *container.CreateRequest) { r.HostConfig.RestartPolicy = tt.policy })
			wait, err := m.Wait("c1", container.WaitConditionNextExit)
			w.check(err)
			w.check(m.Start(t.Context(), "c1"))
			for n := 1; n != tt.starts && n < 4; n++ {
				w.keeper.exit(keeper.Ref{Container: id}, tt.code)
				w.await(m, "c1", Restarting)
				w.await(m, "c1", Running)
			}
			if tt.starts != 0 {
				w.keeper.exit(keeper.Ref{Container: id}, tt.code)
				r := w.await(m, "c1", Exited)
				if r.RestartCount != tt.starts-1 {
					t.Errorf("restarted %d times", r.RestartCount)
				}
			} else {
				w.check(m.Stop(t.Context(), "c1", StopOptions{}))
				if r := w.onDisk(id); r.State != Exited || r.RestartCount != 3 {
					t.Errorf("after stop: %+v", r)
				}
			}
			if code, _, err := wait.Result(t.Context()); err != nil || tt.starts != 0 && code != tt.code {
				t.Errorf("waiters see %d, %v", code, err)
			}
			if n := len(w.keeper.started); tt.starts != 0 && n != tt.starts {
				t.Errorf("started %d times", n)
			}
		})
	}
}

func TestRenameAndUpdate(t *testing.T) {
	w := newWorld(t)
	m := w.manager(true)
	id := w.create(m, "a1", nil)
	w.create(m, "b1", nil)
	if err := m.Rename(t.Context(), "a1", "b1"); !errdefs.IsConflict(err) {
		t.Errorf("rename to a name that is taken: %v", err)
	}
	w.check(m.Rename(t.Context(), "a1", "/c1"))
	if err := m.Rename(t.Context(), "c1", "c1"); !errdefs.IsInvalidArgument(err) {
		t.Errorf("rename to the same name: %v", err)
	}
	w.create(m, "a1", nil) // free again
	_, err := m.Update(t.Context(), "c1", container.UpdateConfig{RestartPolicy: container.RestartPolicy{Name: "always"}})
	w.check(err)
	if r := w.onDisk(id); r.Name != "c1" || r.HostConfig.RestartPolicy.Name != "always" {
		t.Errorf("on disk: %+v", r)
	}
}

func TestAutoRemove(t *testing.T) {
	w := newWorld(t)
	m := w.manager(true)
	id := w.create(m, "c1", func(r *container.CreateRequest) { r.HostConfig.AutoRemove = true })
	w.check(m.Start(t.Context(), "c1"))
	w.check(m.Restart(t.Context(), "c1", StopOptions{}))
	wait, err := m.Wait("c1", container.WaitConditionRemoved)
	w.check(err)
	w.keeper.exit(keeper.Ref{Container: id}, 4)
	if code, _, err := wait.Result(t.Context()); code != 4 || err != nil {
		t.Errorf("wait: %d, %v", code, err)
	}
	if w.onDisk(id) != nil || len(w.store.rootfs) != 0 || len(w.keeper.tasks) != 0 {
		t.Error("something is left")
	}
}

func TestEvents(t *testing.T) {
	w := newWorld(t)
	m := w.manager(true)
	sub := w.events.Subscribe(events.Query{})
	defer sub.Close()
	w.create(m, "c1", func(r *container.CreateRequest) { r.Labels = map[string]string{"tier": "front"} })
	w.check(m.Start(t.Context(), "c1"))
	w.check(m.Stop(t.Context(), "c1", StopOptions{}))
	w.check(m.Rename(t.Context(), "c1", "d1"))
	w.check(m.Remove(t.Context(), "d1", RemoveOptions{}))
	var got []string
	for _, want := range []string{"create", "start", "kill", "die", "stop", "rename", "destroy"} {
		e, _, err := sub.Next(t.Context())
		w.check(err)
		a := e.Actor.Attributes
		if a["tier"] != "front" || a["from"] != "image" || a["image"] != "busybox" || a["name"] == "" {
			t.Errorf("%s has attributes %v", e.Action, a)
		}
		if e.Action == "kill" && a["signal"] != "15" || e.Action == "die" && a["exitCode"] != "143" || e.Action == "rename" && a["oldName"] != "c1" {
			t.Errorf("%s has attributes %v", e.Action, a)
		}
		got = append(got, string(e.Action))
		if string(e.Action) != want {
			t.Fatalf("events %v, want %s", got, want)
		}
	}
}

// A full disk keeps no container from ending or from being removed.
func TestFullDisk(t *testing.T) {
	w := newWorld(t)
	m := w.manager(true)
	id := w.create(m, "c1", nil)
	w.check(m.Start(t.Context(), "c1"))
	// A directory where the store writes its temporary file stands for it.
	full := filepath.Join(w.dir, id, ".container.json.recent.tmp")
	w.check(os.Mkdir(full, 0o700))
	w.check(m.Pause(t.Context(), "c1")) // the next engine asks the keeper
	w.keeper.exit(keeper.Ref{Container: id}, 6)
	if r := w.await(m, "c1", Exited); r.ExitCode != 6 {
		t.Errorf("%+v", r)
	}
	w.check(m.Remove(t.Context(), "c1", RemoveOptions{}))
	if len(w.store.rootfs) != 0 || w.onDisk(id) != nil {
		t.Error("something is left")
	}
}

// Between two runs there is nothing to kill but the plan to start again.
func TestKillBetweenRestarts(t *testing.T) {
	w := newWorld(t)
	m := w.manager(true)
	id := w.create(m, "c1", func(r *container.CreateRequest) { r.HostConfig.RestartPolicy.Name = "always" })
	w.check(m.Start(t.Context(), "c1"))
	w.keeper.exit(keeper.Ref{Container: id}, 1)
	w.await(m, "c1", Restarting)
	w.check(m.Kill(t.Context(), "c1", ""))
	w.await(m, "c1", Exited)
	time.Sleep(2 * firstRestartWait)
	w.await(m, "c1", Exited)
}
