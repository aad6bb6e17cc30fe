package server

import (
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/kelp-engine/kelp/engine/keeper"
)

func withDefaultProfile(t testing.TB, s *specs.Spec) *specs.Spec {
	t.Helper()
	profile, err := seccomp.GetDefaultProfile(s)
	if err != nil {
		t.Fatal(err)
	}
	s.Linux.Seccomp = profile
	return s
}

// The filter is in force in the container's first process and in executed
// ones, whether it was compiled before or not, and no file of it leaks.
func TestSeccomp(t *testing.T) {
	k := newTestKeeper(t)
	const look = "grep Seccomp: /proc/self/status; ls /proc/self/fd; busybox unshare -U true 2>&1; grep Seccomp_filters: /proc/self/status"
	check := func(what, out string) {
		t.Helper()
		if !strings.Contains(out, "Seccomp:\t2") || !strings.Contains(out, "0\n1\n2\n3\n") || !strings.Contains(out, "Operation not permitted") || !strings.Contains(out, "Seccomp_filters:\t1") {
			t.Errorf("%s: %s", what, out)
		}
	}
	for range 2 {
		spec := withDefaultProfile(t, k.spec("sh", "-c", look))
		out, _ := k.run(keeper.StartRequest{ID: "c1", Spec: spec})
		check("first process", out)
	}
	// Another profile has another program.
	spec := k.spec("sh", "-c", "cd /tmp; echo $?; kill -9 1; echo denied $?")
	spec.Linux.Seccomp = &specs.LinuxSeccomp{
		DefaultAction: specs.ActAllow,
		Syscalls:      []specs.LinuxSyscall{{Names: []string{"chdir"}, Action: specs.ActErrno}},
	}
	spec.Process.Cwd = "" // libcontainer would change to it
	if out, _ := k.run(keeper.StartRequest{ID: "c1", Spec: spec}); !strings.Contains(out, "can't cd to /tmp") {
		t.Errorf("own profile: %s", out)
	}

	k.start(keeper.StartRequest{ID: "c1", Spec: withDefaultProfile(t, k.spec("sleep", "60"))})
	mine, its := k.pair()
	ref := keeper.Ref{Container: "c1", Exec: "e"}
	if _, err := k.Exec(k.ctx(), keeper.ExecRequest{Ref: ref, Process: k.spec("sh", "-c", look).Process, Attach: &keeper.AttachRequest{Stdout: true}}, its, nil); err != nil {
		t.Fatal(err)
	}
	its.Close()
	out, err := io.ReadAll(mine)
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal(err)
	}
	check("executed process", string(out))
}

func TestBadSeccompProfile(t *testing.T) {
	k := newTestKeeper(t)
	spec := k.spec("true")
	spec.Linux.Seccomp = &specs.LinuxSeccomp{
		DefaultAction: specs.ActAllow,
		Syscalls: []specs.LinuxSyscall{
			{Names: []string{"chdir"}, Action: specs.ActErrno},
			{Names: []string{"write"}, Action: specs.ActNotify},
		},
		ListenerPath: "/nonexistent",
	}
	for range 2 { // a failure is not kept
		_, err := k.Start(k.ctx(), keeper.StartRequest{ID: "c1", Spec: spec})
		if !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), "seccomp profile") {
			t.Errorf("got %v", err)
		}
	}
	out, task := k.run(keeper.StartRequest{ID: "c1", Spec: withDefaultProfile(t, k.spec("echo", "well"))})
	if out != "well\n" || task.ExitCode != 0 {
		t.Errorf("the next start: %q, %d", out, task.ExitCode)
	}
}

// BenchmarkStart runs `true` in a container with the default seccomp profile,
// and in one that runs already.
func BenchmarkStart(b *testing.B) {
	k := newTestKeeper(b)
	b.Run("start", func(b *testing.B) {
		for b.Loop() {
			k.start(keeper.StartRequest{ID: "c1", Spec: withDefaultProfile(b, k.spec("true"))})
			k.exit(c1)
		}
	})
	k.start(keeper.StartRequest{ID: "c1", Spec: withDefaultProfile(b, k.spec("sleep", "600"))})
	b.Run("exec", func(b *testing.B) {
		ref := keeper.Ref{Container: "c1", Exec: "e"}
		for b.Loop() {
			if _, err := k.Exec(k.ctx(), keeper.ExecRequest{Ref: ref, Process: k.spec("true").Process}, nil, nil); err != nil {
				b.Fatal(err)
			}
			k.exit(ref)
		}
	})
}
