package spec

import (
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/docker/go-units"
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
			"mount network ipc pid uts",
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

func TestCapabilities(t *testing.T) {
	has := func(names ...string) []string { return names }
	for _, tt := range []struct {
		name       string
		add, drop  []string
		privileged bool
		user       string
		want, not  []string
		effective  bool
		err        string
	}{
		{name: "Docker's", want: has("CAP_CHOWN", "CAP_NET_RAW"), not: has("CAP_SYS_ADMIN"), effective: true},
		{name: "added", add: has("sys_admin", "CAP_NET_ADMIN"), want: has("CAP_SYS_ADMIN", "CAP_NET_ADMIN", "CAP_CHOWN"), effective: true},
		{name: "all", add: has("all"), want: knownCaps(), effective: true},
		{name: "all but one", add: has("ALL"), drop: has("SYS_ADMIN"), want: has("CAP_NET_ADMIN"), not: has("CAP_SYS_ADMIN"), effective: true},
		{name: "none but one", add: has("CHOWN"), drop: has("ALL"), want: has("CAP_CHOWN"), not: has("CAP_NET_RAW"), effective: true},
		{name: "privileged", privileged: true, drop: has("ALL"), want: knownCaps(), effective: true},
		{name: "not root", user: "mail", want: has("CAP_CHOWN")},
		{name: "unknown", add: has("EVERYTHING"), err: `invalid CapAdd: unknown capability: "EVERYTHING"`},
		{name: "unknown to drop", drop: has("x"), err: `invalid CapDrop: unknown capability: "x"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			in := testInput(t)
			in.Config.User = tt.user
			in.HostConfig.CapAdd, in.HostConfig.CapDrop, in.HostConfig.Privileged = tt.add, tt.drop, tt.privileged
			if _, err := Validate(in.Config, in.HostConfig, in.Host); tt.err != "" {
				if err == nil || err.Error() != tt.err || !errdefs.IsInvalidArgument(err) {
					t.Errorf("error %v, want %s", err, tt.err)
				}
				return
			} else if err != nil {
				t.Fatal(err)
			}
			s, err := Build(in)
			if err != nil {
				t.Fatal(err)
			}
			c := s.Process.Capabilities
			for _, name := range tt.want {
				if !slices.Contains(c.Bounding, name) || slices.Contains(c.Effective, name) != tt.effective {
					t.Errorf("%s: bounding %v, effective %v", name, c.Bounding, c.Effective)
				}
			}
			for _, name := range tt.not {
				if slices.Contains(c.Bounding, name) {
					t.Errorf("it has %s", name)
				}
			}
		})
	}
}

func TestConfinement(t *testing.T) {
	const custom = `{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["read"],"action":"SCMP_ACT_ALLOW"}]}`
	for _, tt := range []struct {
		name       string
		opts       []string
		privileged bool
		calls      int // of the filter: 0 is no filter, -1 Docker's
		masked     int
		nnp        bool
		err        string
	}{
		{name: "Docker's", calls: -1, masked: len(hidden)},
		{name: "unconfined", opts: []string{"seccomp=unconfined"}, masked: len(hidden)},
		{name: "custom", opts: []string{"seccomp=" + custom, "no-new-privileges:true"}, calls: 1, masked: len(hidden), nnp: true},
		{name: "privileged", privileged: true},
		{name: "privileged with a custom one", opts: []string{"seccomp=" + custom}, privileged: true, calls: 1},
		{name: "no JSON", opts: []string{"seccomp={"}, err: "cannot use the seccomp profile"},
		{name: "no value", opts: []string{"nonsense"}, err: `invalid --security-opt 1: "nonsense"`},
		{name: "unknown", opts: []string{"a=b"}, err: `invalid --security-opt 2: "a=b"`},
		{name: "no truth value", opts: []string{"no-new-privileges=perhaps"}, err: `invalid --security-opt 2: "no-new-privileges=perhaps"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			in := testInput(t)
			in.HostConfig.SecurityOpt, in.HostConfig.Privileged = tt.opts, tt.privileged
			_, err := Validate(in.Config, in.HostConfig, in.Host)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) || !errdefs.IsInvalidArgument(err) {
					t.Errorf("error %v, want %s", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			s, err := Build(in)
			if err != nil {
				t.Fatal(err)
			}
			calls := 0
			if s.Linux.Seccomp != nil {
				calls = len(s.Linux.Seccomp.Syscalls)
			}
			if tt.calls >= 0 && calls != tt.calls || tt.calls < 0 && calls < 10 {
				t.Errorf("the filter has %d rules", calls)
			}
			if len(s.Linux.MaskedPaths) != tt.masked || s.Process.NoNewPrivileges != tt.nnp {
				t.Errorf("masked %v, no new privileges %v", s.Linux.MaskedPaths, s.Process.NoNewPrivileges)
			}
		})
	}
}

func TestRefusals(t *testing.T) {
	for _, tt := range []struct {
		name, err string
		edit      func(*Input)
	}{
		{"relative directory", "needs to be an absolute path", func(in *Input) { in.Config.WorkingDir = "x" }},
		{"variable without a name", "invalid environment variable: =x", func(in *Input) { in.Config.Env = []string{"=x"} }},
		{"signal", "invalid signal: NOSUCH", func(in *Input) { in.Config.StopSignal = "NOSUCH" }},
		{"IPC mode", "invalid IPC mode: x", func(in *Input) { in.HostConfig.IpcMode = "x" }},
		{"IPC of nobody", "invalid IPC mode: container:", func(in *Input) { in.HostConfig.IpcMode = "container:" }},
		{"PID mode", "invalid PID mode: container:", func(in *Input) { in.HostConfig.PidMode = "container:" }},
		{"OOM score", "range for oom score adj is [-1000, 1000]", func(in *Input) { in.HostConfig.OomScoreAdj = 1001 }},
		{"shared memory", "SHM size can not be less than 0", func(in *Input) { in.HostConfig.ShmSize = -1 }},
		{"host's sysctl", `sysctl "kernel.panic" is not in a separate kernel namespace`, func(in *Input) { in.HostConfig.Sysctls = map[string]string{"kernel.panic": "1"} }},
		{"sysctl by a path", `sysctl "kernel/panic" is not in a separate kernel namespace`, func(in *Input) { in.HostConfig.Sysctls = map[string]string{"kernel/panic": "1"} }},
		{"sysctl upwards", `invalid sysctl "net/../kernel/panic"`, func(in *Input) { in.HostConfig.Sysctls = map[string]string{"net/../kernel/panic": "1"} }},
		{"sysctl of the host's network", "not allowed in host network namespace", func(in *Input) {
			in.HostConfig.NetworkMode, in.HostConfig.Sysctls = "host", map[string]string{"net.core.somaxconn": "1"}
		}},
		{"ulimit", "invalid ulimit type: x", func(in *Input) { in.HostConfig.Ulimits = []*units.Ulimit{{Name: "x"}} }},
		{"soft over hard", "soft limit must be less than or equal to hard limit", func(in *Input) { in.HostConfig.Ulimits = []*units.Ulimit{{Name: "nofile", Soft: 2, Hard: 1}} }},
		{"little memory", "Minimum memory limit allowed is 6MB", func(in *Input) { in.HostConfig.Memory = 1 }},
		{"swap alone", "You should always set the Memory limit", func(in *Input) { in.HostConfig.MemorySwap = 1 << 30 }},
		{"cpus twice", "Nano CPUs and CPU Period cannot both be set", func(in *Input) { in.HostConfig.NanoCPUs, in.HostConfig.CPUPeriod = 1e9, 1000 }},
		{"cpu set", "Invalid value 1-x for cpuset cpus", func(in *Input) { in.HostConfig.CpusetCpus = "1-x" }},
		{"absent cpu", "Requested CPUs are not available", func(in *Input) { in.HostConfig.CpusetCpus = "8000" }},
		{"cgroup parent", "invalid cgroup parent", func(in *Input) { in.HostConfig.CgroupParent = "/a/../../b" }},
		{"device rule", "invalid device cgroup rule format: 'x'", func(in *Input) { in.HostConfig.DeviceCgroupRules = []string{"x"} }},
		{"device mode", "invalid device mode: rx", func(in *Input) {
			in.HostConfig.Devices = []container.DeviceMapping{{PathOnHost: "/dev/null", CgroupPermissions: "rx"}}
		}},
		{"no device", "not a device node", func(in *Input) { in.HostConfig.Devices = []container.DeviceMapping{{PathOnHost: "/etc/passwd"}} }},
		{"device driver", `could not select device driver "x" with capabilities: [[gpu]]`, func(in *Input) {
			in.HostConfig.DeviceRequests = []container.DeviceRequest{{Driver: "x", Capabilities: [][]string{{"gpu"}}}}
		}},
		{"CDI device", "unresolvable CDI devices vendor.com/class=none", func(in *Input) {
			in.HostConfig.DeviceRequests = []container.DeviceRequest{{Driver: "cdi", DeviceIDs: []string{"vendor.com/class=none"}}}
		}},
		{"masked path", "it must be absolute", func(in *Input) { in.HostConfig.MaskedPaths = []string{"x"} }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			in := testInput(t)
			tt.edit(&in)
			_, err := Validate(in.Config, in.HostConfig, in.Host)
			if err == nil || !strings.Contains(err.Error(), tt.err) || !errdefs.IsInvalidArgument(err) {
				t.Errorf("error %v, want %s", err, tt.err)
			}
		})
	}
}

func TestConflicts(t *testing.T) {
	for _, tt := range []struct {
		text string
		c    container.Config
		hc   container.HostConfig
	}{
		{"hostname and the network mode", container.Config{Hostname: "h"}, container.HostConfig{NetworkMode: "container:a"}},
		{"hostname and the UTS mode", container.Config{Hostname: "h"}, container.HostConfig{UTSMode: "host"}},
		{"port publishing and the container type network mode", container.Config{}, container.HostConfig{NetworkMode: "container:a", PublishAllPorts: true}},
		{"", container.Config{Hostname: "h"}, container.HostConfig{NetworkMode: "host"}},
	} {
		err := CheckRequest(&tt.c, &tt.hc)
		if tt.text == "" && err != nil || tt.text != "" && (err == nil || err.Error() != "conflicting options: "+tt.text) {
			t.Errorf("error %v, want %q", err, tt.text)
		}
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

func FuzzParseCpuset(f *testing.F) {
	f.Add("0-2,7")
	f.Add("8191-0,,")
	f.Fuzz(func(t *testing.T, s string) {
		list, err := parseCpuset(s)
		if err == nil && slices.ContainsFunc(list, func(n int) bool { return n < 0 || n >= maxCpuset }) {
			t.Errorf("%q gives %v", s, list)
		}
	})
}

func FuzzParseSecurityOpts(f *testing.F) {
	f.Add("seccomp=unconfined")
	f.Add("no-new-privileges:false")
	f.Add("=:=")
	f.Fuzz(func(t *testing.T, s string) {
		if _, err := parseSecurityOpts([]string{s}); err != nil && !errdefs.IsInvalidArgument(err) {
			t.Errorf("%q: %v", s, err)
		}
	})
}

func FuzzMergeEnv(f *testing.F) {
	f.Add("A=1", "A=2")
	f.Add("A", "=")
	f.Fuzz(func(t *testing.T, a, b string) {
		for _, kv := range mergeEnv([]string{defaultPath}, []string{a, b}) {
			if !strings.Contains(kv, "=") {
				t.Errorf("%q %q give %q", a, b, kv)
			}
		}
	})
}
