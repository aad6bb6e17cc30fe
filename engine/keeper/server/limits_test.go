package server

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/kelp-engine/kelp/engine/keeper"
)

// states returns the states of a container's processes, as in ps.
func (k *testKeeper) states(id string) string {
	k.t.Helper()
	pids, err := k.Processes(k.ctx(), id)
	if err != nil {
		k.t.Fatal(err)
	}
	var all strings.Builder
	for _, pid := range pids {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			continue
		}
		_, rest, _ := strings.Cut(string(b), ") ")
		all.WriteByte(rest[0])
	}
	return all.String()
}

func (k *testKeeper) waitFor(what string, cond func() bool) {
	k.t.Helper()
	for end := time.Now().Add(time.Minute); !cond(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			k.t.Fatal("waited in vain for " + what)
		}
	}
}

func TestPauseBySignals(t *testing.T) {
	k := newTestKeeper(t)
	ref := keeper.Ref{Container: "c1"}
	// One process is stopped already and has to stay so.
	if _, err := k.Start(k.ctx(), keeper.StartRequest{ID: "c1", Spec: k.spec("sh", "-c", "sleep 60 & kill -STOP $!; while true; do sleep 0.01; done")}); err != nil {
		t.Fatal(err)
	}
	k.waitFor("a stopped process", func() bool { return strings.Contains(k.states("c1"), "T") })
	if err := k.Resume(k.ctx(), "c1"); !errdefs.IsConflict(err) {
		t.Errorf("resume of a running container: %v", err)
	}
	if err := k.Pause(k.ctx(), "c1"); err != nil {
		t.Fatal(err)
	}
	// One that is in the kernel for a moment stops when it comes out of it.
	k.waitFor("all processes stopped", func() bool { s := k.states("c1"); return strings.Trim(s, "T") == "" && len(s) >= 2 })
	if task, err := k.Task(k.ctx(), ref); err != nil || task.Status != keeper.Paused {
		t.Errorf("paused container is %v, %v", task.Status, err)
	}
	if err := k.Pause(k.ctx(), "c1"); !errdefs.IsConflict(err) {
		t.Errorf("pause of a paused container: %v", err)
	}
	_, err := k.Exec(k.ctx(), keeper.ExecRequest{Ref: keeper.Ref{Container: "c1", Exec: "e"}, Process: &specs.Process{Args: []string{"true"}, Cwd: "/"}}, nil, nil)
	if !errdefs.IsConflict(err) {
		t.Errorf("exec in a paused container: %v", err)
	}
	if err := k.Resume(k.ctx(), "c1"); err != nil {
		t.Fatal(err)
	}
	k.waitFor("all but one running", func() bool { return strings.Count(k.states("c1"), "T") == 1 })
	if err := k.Pause(k.ctx(), "c1"); err != nil {
		t.Fatal(err)
	}
	if err := k.Signal(k.ctx(), ref, int(unix.SIGKILL), false); err != nil {
		t.Fatal(err)
	}
	if task := k.exit(ref); task.ExitCode != 137 {
		t.Errorf("exit code %d", task.ExitCode)
	}
}

func TestSignalAll(t *testing.T) {
	k := newTestKeeper(t)
	// As pid 1 the outer shell is not killed by a signal that it does not handle.
	if _, err := k.Start(k.ctx(), keeper.StartRequest{ID: "c1", Spec: k.spec("sh", "-c", "sleep 60 & sleep 61 & wait; exit 7")}); err != nil {
		t.Fatal(err)
	}
	k.waitFor("three processes", func() bool { return len(k.states("c1")) == 3 })
	if err := k.Signal(k.ctx(), keeper.Ref{Container: "c1"}, int(unix.SIGTERM), true); err != nil {
		t.Fatal(err)
	}
	if task := k.exit(keeper.Ref{Container: "c1"}); task.ExitCode != 7 {
		t.Errorf("exit code %d", task.ExitCode)
	}
}

// A container that shares the host's pid namespace takes its processes along.
func TestHostPIDs(t *testing.T) {
	k := newTestKeeper(t)
	spec := k.spec("sh", "-c", "sleep 600 & sh -c 'sleep 601 &'; exec sleep 600")
	spec.Linux.Namespaces = spec.Linux.Namespaces[:0]
	for _, n := range k.spec().Linux.Namespaces {
		if n.Type != specs.PIDNamespace {
			spec.Linux.Namespaces = append(spec.Linux.Namespaces, n)
		}
	}
	spec.Mounts[0] = specs.Mount{Destination: "/proc", Type: "bind", Source: "/proc", Options: []string{"rbind"}}
	if _, err := k.Start(k.ctx(), keeper.StartRequest{ID: "c1", Spec: spec}); err != nil {
		t.Fatal(err)
	}
	var pids []int
	k.waitFor("three processes", func() bool { // one of them an orphan
		pids, _ = k.Processes(k.ctx(), "c1")
		return len(pids) == 3
	})
	if err := k.Signal(k.ctx(), keeper.Ref{Container: "c1"}, int(unix.SIGKILL), false); err != nil {
		t.Fatal(err)
	}
	k.exit(keeper.Ref{Container: "c1"})
	for _, pid := range pids {
		if b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)); err == nil && !strings.Contains(string(b), ") Z ") {
			t.Errorf("left: %s", b)
		}
	}
}

func TestStats(t *testing.T) {
	k := newTestKeeper(t)
	if _, err := k.Start(k.ctx(), keeper.StartRequest{ID: "c1", Spec: k.spec("sh", "-c", "while true; do true; done")}); err != nil {
		t.Fatal(err)
	}
	var first, s keeper.Stats
	k.waitFor("processor time", func() bool {
		var err error
		if s, err = k.Stats(k.ctx(), "c1"); err != nil {
			t.Fatal(err)
		}
		if first.CPU.Machine == 0 {
			first = s
		}
		return s.CPU.Total > first.CPU.Total+50e6
	})
	if s.Cgroup || s.CPU.Machine <= first.CPU.Machine || s.CPU.Online < 1 || s.PIDs.Current != 1 || s.Memory.Usage < 10<<10 || s.Memory.Machine < s.Memory.Usage {
		t.Errorf("stats: %+v", s)
	}
	ref := keeper.Ref{Container: "c1", Exec: "e"}
	exec := &specs.Process{Args: []string{"sh", "-c", "until [ -e /end ]; do :; done"}, Cwd: "/", Env: []string{"PATH=/bin"}}
	if _, err := k.Exec(k.ctx(), keeper.ExecRequest{Ref: ref, Process: exec}, nil, nil); err != nil {
		t.Fatal(err)
	}
	during, err := k.Stats(k.ctx(), "c1")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(k.rootfs, "end"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	k.exit(ref)
	after, err := k.Stats(k.ctx(), "c1")
	if err != nil || during.PIDs.Current < 2 || after.PIDs.Current != 1 || after.CPU.Total < during.CPU.Total {
		t.Errorf("stats during %+v and after an exec %+v, %v", during, after, err)
	}
	if err := k.Update(k.ctx(), "c1", specs.LinuxResources{}); !errdefs.IsNotImplemented(err) {
		t.Errorf("update without a cgroup: %v", err)
	}
}
