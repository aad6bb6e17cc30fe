package spec

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/moby/moby/api/types/container"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// testInput is a container that asks for nothing, on a host that has all.
func testInput(t testing.TB) Input {
	t.Helper()
	rootfs := t.TempDir()
	write(t, rootfs, "etc/passwd", "root:x:0:0:root:/root:/bin/sh\nmail:x:8:12::/var/mail:/bin/sh\n")
	write(t, rootfs, "etc/group", "root:x:0:\nmail:x:12:\nvideo:x:44:mail\n")
	return Input{
		Config:     &container.Config{Hostname: "c1", Cmd: []string{"sh"}},
		HostConfig: &container.HostConfig{},
		Rootfs:     rootfs,
		Host: Host{
			Capabilities:    knownCaps(),
			Controllers:     map[string]bool{"cpu": true, "cpuset": true, "io": true, "memory": true, "pids": true},
			CgroupNamespace: true,
			Seccomp:         true,
			NetworkSysfs:    true,
			MaxID:           65536,
		},
	}
}

func write(t testing.TB, dir, name, content string) {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestBuildOfAContainerThatAsksForNothing(t *testing.T) {
	s, err := Build(testInput(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, typ := range []specs.LinuxNamespaceType{specs.MountNamespace, specs.NetworkNamespace, specs.IPCNamespace, specs.PIDNamespace, specs.UTSNamespace, specs.CgroupNamespace} {
		if !slices.Contains(s.Linux.Namespaces, specs.LinuxNamespace{Type: typ}) {
			t.Errorf("no %s namespace of its own", typ)
		}
	}
	if got := s.Process.Capabilities.Effective; len(got) != len(defaultCaps) {
		t.Errorf("capabilities = %v", got)
	}
	if s.Linux.Seccomp == nil {
		t.Error("no seccomp filter")
	}
	want := []string{defaultPath, "HOSTNAME=c1", "HOME=/root"}
	if !slices.Equal(s.Process.Env, want) {
		t.Errorf("env = %q, want %q", s.Process.Env, want)
	}
	if s.Process.Cwd != "/" || !slices.Equal(s.Process.Args, []string{"sh"}) {
		t.Errorf("args %q in %q", s.Process.Args, s.Process.Cwd)
	}
}
