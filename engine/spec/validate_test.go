package spec

import (
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/container"

	"github.com/kelp-engine/kelp/engine/fault"
)

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
		{name: "Docker's", calls: -1, masked: len(hiddenHere())},
		{name: "unconfined", opts: []string{"seccomp=unconfined"}, masked: len(hiddenHere())},
		{name: "custom", opts: []string{"seccomp=" + custom, "no-new-privileges:true"}, calls: 1, masked: len(hiddenHere()), nnp: true},
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
		{"signal's number", "invalid signal: 65", func(in *Input) { in.Config.StopSignal = "65" }},
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
		{"terminal's size", "a terminal cannot have 65536 lines", func(in *Input) { in.HostConfig.ConsoleSize = [2]uint{65536, 1} }},
		{"more GPUs than there are", "no machine has 1000000000 GPUs", func(in *Input) {
			in.HostConfig.DeviceRequests = []container.DeviceRequest{{Count: 1e9, Capabilities: [][]string{{"gpu"}}}}
		}},
		{"ulimit below none", "-1 is no limit", func(in *Input) { in.HostConfig.Ulimits = []*units.Ulimit{{Name: "core", Soft: -5, Hard: -1}} }},
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

func TestUnknownRuntimes(t *testing.T) {
	for name, hint := range map[string]string{"nvidia": "--gpus all", "crun": `by the name "runc"`} {
		in := testInput(t)
		in.HostConfig.Runtime = name
		_, err := Validate(in.Config, in.HostConfig, in.Host)
		if !errdefs.IsInvalidArgument(err) || !strings.HasPrefix(err.Error(), "unknown or invalid runtime name: "+name) || !strings.Contains(fault.HintOf(err), hint) {
			t.Errorf("%s: %v (%s)", name, err, fault.HintOf(err))
		}
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
