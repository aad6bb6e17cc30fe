package server

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/kelp-engine/kelp/engine/keeper"
	"github.com/kelp-engine/kelp/engine/runtime"
	"github.com/kelp-engine/kelp/userns/cgroup"
)

// A container in a cgroup of its own is frozen, counted and removed with it.
func TestCgroup(t *testing.T) {
	info := cgroup.Probe()
	if info.Driver != cgroup.FS {
		t.Skip("no cgroup is delegated: ", info.Reason)
	}
	k := newTestKeeper(t)
	group, systemd := info.Container("c1", "")
	dir := info.Dir(group)
	spec := k.spec("sh", "-c", "while true; do sleep 0.01; done")
	spec.Linux.Namespaces = append(spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.CgroupNamespace})
	k.start(keeper.StartRequest{ID: "c1", Spec: spec, Cgroup: group, SystemdCgroup: systemd})
	frozen := func() bool {
		b, err := os.ReadFile(filepath.Join(dir, "cgroup.events"))
		return err == nil && strings.Contains(string(b), "frozen 1")
	}
	if err := k.Pause(k.ctx(), "c1"); err != nil || !frozen() {
		t.Fatalf("pause: %v, frozen %v", err, frozen())
	}
	if pids, err := k.Processes(k.ctx(), "c1"); err != nil || len(pids) == 0 {
		t.Errorf("processes: %v, %v", pids, err)
	}
	if err := k.Resume(k.ctx(), "c1"); err != nil || frozen() {
		t.Errorf("resume: %v, frozen %v", err, frozen())
	}
	if s, err := k.Stats(k.ctx(), "c1"); err != nil || !s.Cgroup || s.CPU.Total == 0 || s.Memory.Usage == 0 || s.PIDs.Current == 0 {
		t.Errorf("stats: %+v, %v", s, err)
	}
	ref := keeper.Ref{Container: "c1", Exec: "e"}
	process := k.spec("sh", "-c", "grep -q '^0::/$' /proc/self/cgroup").Process
	if _, err := k.Exec(k.ctx(), keeper.ExecRequest{Ref: ref, Process: process}, nil, nil); err != nil {
		t.Fatal(err)
	}
	if task := k.exit(ref); task.ExitCode != 0 {
		t.Error("an executed process is not in the container's cgroup")
	}
	if err := k.Pause(k.ctx(), "c1"); err != nil {
		t.Fatal(err)
	}
	if err := k.Signal(k.ctx(), c1, int(unix.SIGKILL), false); err != nil {
		t.Fatal(err)
	}
	k.exit(c1)
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("the cgroup is left: %v", err)
	}
}

func TestLeftoverCgroups(t *testing.T) {
	info := cgroup.Probe()
	if info.Driver != cgroup.FS {
		t.Skip("no cgroup is delegated: ", info.Reason)
	}
	k := newTestKeeper(t)
	id := strings.Repeat("0123456789abcdef", 4)
	group, _ := info.Container(id, "")
	k.start(keeper.StartRequest{ID: id, Spec: k.spec("sleep", "600"), Cgroup: group})
	below := filepath.Join(info.Dir(group), "below")
	if err := os.Mkdir(below, 0o755); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	if err := runtime.RemoveCgroups(info.Dir(info.Base)); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(info.Dir(group)); !os.IsNotExist(err) {
		t.Errorf("the cgroup is left after %v: %v", time.Since(begin), err)
	}
	if task := k.exit(keeper.Ref{Container: id}); task.ExitCode != 137 {
		t.Errorf("exit code %d", task.ExitCode)
	}
}
