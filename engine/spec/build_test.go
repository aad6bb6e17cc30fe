package spec

import (
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/sys/mountinfo"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/kelp-engine/kelp/engine/mounts"
)

// build describes the container of testInput after edit.
func build(t *testing.T, edit func(*Input)) *specs.Spec {
	t.Helper()
	in := testInput(t)
	edit(&in)
	s, err := Build(in)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func namespacesOf(s *specs.Spec) string {
	var out []string
	for _, n := range s.Linux.Namespaces {
		out = append(out, strings.TrimSuffix(string(n.Type)+"="+n.Path, "="))
	}
	return strings.Join(out, " ")
}

// mountAt is the mount at a target as "type source options".
func mountAt(s *specs.Spec, target string) string {
	out := ""
	for _, m := range s.Mounts {
		if m.Destination == target {
			if out != "" {
				return "twice"
			}
			out = m.Type + " " + m.Source + " " + strings.Join(m.Options, ",")
		}
	}
	return out
}

func TestModes(t *testing.T) {
	for _, tt := range []struct {
		name       string
		edit       func(*Input)
		namespaces string
		mounts     map[string]string
	}{
		{
			"its own of all", func(*Input) {},
			"mount network ipc pid uts cgroup",
			map[string]string{
				"/proc":          "proc proc nosuid,noexec,nodev",
				"/sys":           "sysfs sysfs nosuid,noexec,nodev,ro",
				"/sys/fs/cgroup": "cgroup cgroup nosuid,noexec,nodev,ro",
				"/dev/shm":       "tmpfs shm nosuid,noexec,nodev,mode=1777,size=67108864",
				"/dev/pts":       "devpts devpts nosuid,noexec,newinstance,ptmxmode=0666,mode=0620,gid=5",
			},
		},
		{
			"the host's", func(in *Input) {
				in.HostConfig.NetworkMode, in.HostConfig.PidMode, in.HostConfig.UTSMode = "host", "host", "host"
				in.HostConfig.IpcMode, in.HostConfig.CgroupnsMode = "host", "host"
			},
			"mount",
			map[string]string{
				"/proc":    "bind /proc rbind,rprivate,nosuid,noexec,nodev",
				"/sys":     "bind /sys rbind,rprivate,nosuid,noexec,nodev,ro",
				"/dev/shm": "bind /dev/shm rbind,rprivate,nosuid,noexec,nodev",
			},
		},
		{
			"another container's", func(in *Input) {
				in.HostConfig.NetworkMode, in.HostConfig.PidMode, in.HostConfig.IpcMode = "container:a", "container:a", "container:a"
				in.Join = Join{Network: 1, IPC: 2, PID: 3}
				in.Shm = "/run/shm"
			},
			"mount network=/proc/1/ns/net ipc=/proc/2/ns/ipc pid=/proc/3/ns/pid uts cgroup",
			map[string]string{"/proc": "proc proc nosuid,noexec,nodev", "/dev/shm": "bind /run/shm rbind,rprivate,nosuid,noexec,nodev"},
		},
		{
			"privileged", func(in *Input) { in.HostConfig.Privileged = true },
			"mount network ipc pid uts cgroup",
			map[string]string{"/sys": "sysfs sysfs nosuid,noexec,nodev,rw", "/sys/fs/cgroup": "cgroup cgroup nosuid,noexec,nodev,rw"},
		},
		{
			"no shared memory", func(in *Input) { in.HostConfig.IpcMode = "none" },
			"mount network ipc pid uts cgroup",
			map[string]string{"/dev/shm": ""},
		},
		{
			"no cgroups", func(in *Input) { in.Host.CgroupNamespace = false },
			"mount network ipc pid uts",
			map[string]string{"/sys/fs/cgroup": ""},
		},
		{
			"a host that hides parts of sysfs", func(in *Input) { in.Host.NetworkSysfs = false },
			"mount network ipc pid uts cgroup",
			map[string]string{"/sys": "bind /sys rbind,rprivate,nosuid,noexec,nodev,ro"},
		},
		{
			"one id only", func(in *Input) { in.Host.MaxID = 0 },
			"mount network ipc pid uts cgroup",
			map[string]string{"/dev/pts": "devpts devpts nosuid,noexec,newinstance,ptmxmode=0666,mode=0620"},
		},
		{
			"the user's mounts take the place of the system's", func(in *Input) {
				in.Mounts = []mounts.Point{
					{Type: "bind", Source: "/a", Target: "/dev/shm", ReadOnly: true},
					{Type: "tmpfs", Target: "/etc/hosts", TmpfsOptions: []string{"ro"}},
				}
				in.Hosts, in.Hostname = "/c/hosts", "/c/hostname"
			},
			"mount network ipc pid uts cgroup",
			map[string]string{
				"/dev/shm":      "bind /a rbind,rprivate,ro",
				"/etc/hosts":    "tmpfs tmpfs ro",
				"/etc/hostname": "bind /c/hostname rbind,rprivate,rw",
			},
		},
		{
			"the user's /dev", func(in *Input) { in.Mounts = []mounts.Point{{Type: "bind", Source: "/dev", Target: "/dev"}} },
			"mount network ipc pid uts cgroup",
			map[string]string{"/dev": "bind /dev rbind,rprivate", "/dev/pts": "", "/dev/shm": ""},
		},
		{
			"ways to bind", func(in *Input) {
				in.Host.RecursiveReadOnly = true
				in.Mounts = []mounts.Point{
					{Type: "bind", Source: "/a", Target: "/1", ReadOnly: true, Propagation: "rslave"},
					{Type: "bind", Source: "/a", Target: "/2", NonRecursive: true, Propagation: "private"},
					{Type: "bind", Source: "/a", Target: "/3", ReadOnly: true, ReadOnlyNonRecursive: true},
				}
			},
			"mount network ipc pid uts cgroup",
			map[string]string{"/1": "bind /a rbind,rslave,ro,rro", "/2": "bind /a bind,private", "/3": "bind /a rbind,rprivate,ro"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := build(t, tt.edit)
			if got := namespacesOf(s); got != tt.namespaces {
				t.Errorf("namespaces %q, want %q", got, tt.namespaces)
			}
			for target, want := range tt.mounts {
				if got := mountAt(s, target); got != want {
					t.Errorf("%s: %q, want %q", target, got, want)
				}
			}
		})
	}
}

func TestParentsAreMountedFirst(t *testing.T) {
	s := build(t, func(in *Input) {
		for _, target := range []string{"/a/b/c", "/x", "/a", "/a/b"} {
			in.Mounts = append(in.Mounts, mounts.Point{Type: "bind", Source: "/s", Target: target})
		}
	})
	var order []string
	for _, m := range s.Mounts {
		if m.Source == "/s" {
			order = append(order, m.Destination)
		}
	}
	if !slices.Equal(order, []string{"/x", "/a", "/a/b", "/a/b/c"}) {
		t.Errorf("order %q", order)
	}
}

func TestExecTakesAfterItsContainer(t *testing.T) {
	in := testInput(t)
	in.Config.Env, in.Config.User, in.Config.WorkingDir = []string{"A=1", "B=1"}, "mail", "/w"
	in.HostConfig.CapDrop = []string{"ALL"}
	x := Exec{Config: in.Config, HostConfig: in.HostConfig, Rootfs: in.Rootfs, Host: in.Host}
	x.Request = container.ExecCreateRequest{Cmd: []string{"id"}, Env: []string{"B=2", "A"}}
	p, err := Process(x)
	if err != nil {
		t.Fatal(err)
	}
	if p.User.UID != 8 || p.Cwd != "/w" || !slices.Contains(p.Env, "B=2") || slices.Contains(p.Env, "A=1") || len(p.Capabilities.Bounding) != 0 {
		t.Errorf("process %+v", p)
	}
	x.Request.User, x.Request.WorkingDir, x.Request.Privileged = "0", "/x/../y", true
	if p, err = Process(x); err != nil || p.User.UID != 0 || p.Cwd != "/y" || len(p.Capabilities.Effective) != len(knownCaps()) {
		t.Errorf("process %+v, %v", p, err)
	}
	x.Request.WorkingDir = "y"
	if _, err := Process(x); !errdefs.IsInvalidArgument(err) {
		t.Errorf("a relative directory: %v", err)
	}
}

func TestSysfsVisible(t *testing.T) {
	at := func(point, fs string) *mountinfo.Info {
		return &mountinfo.Info{Mountpoint: point, FSType: fs, Root: "/"}
	}
	for _, tt := range []struct {
		name string
		list []*mountinfo.Info
		want bool
	}{
		{"a machine", []*mountinfo.Info{at("/sys", "sysfs"), at("/sys/kernel/security", "securityfs"), at("/sys/fs/cgroup", "tmpfs"), at("/sys/fs/cgroup/unified", "cgroup2")}, true},
		{"a container that hides its firmware", []*mountinfo.Info{at("/sys", "sysfs"), at("/sys/firmware", "tmpfs")}, false},
		{"a part of one", []*mountinfo.Info{{Mountpoint: "/sys", FSType: "sysfs", Root: "/class"}}, false},
		{"none", nil, false},
	} {
		if got := sysfsVisibleIn(tt.list); got != tt.want {
			t.Errorf("%s: %v", tt.name, got)
		}
	}
}
