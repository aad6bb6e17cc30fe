package spec

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/moby/moby/api/types/blkiodev"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// fate is what becomes of a field that a client sets.
type fate string

const (
	works   fate = "works"
	warned  fate = "works where the host allows it, else the client is warned"
	refused fate = "is refused"
	noted   fate = "is recorded and shown; Docker on Linux does no more"
)

// fates of every field. A field that Docker adds has none, which fails the
// test: nothing is accepted and ignored.
var fates = map[string]fate{
	"Config.Hostname":        works,
	"Config.Domainname":      works,
	"Config.User":            works,
	"Config.AttachStdin":     noted, // POST /containers/{id}/attach says what is attached
	"Config.AttachStdout":    noted,
	"Config.AttachStderr":    noted,
	"Config.ExposedPorts":    works, // engine/network
	"Config.Tty":             works,
	"Config.OpenStdin":       works, // engine/container
	"Config.StdinOnce":       works, // engine/container
	"Config.Env":             works,
	"Config.Cmd":             works,
	"Config.Healthcheck":     works, // engine/container
	"Config.ArgsEscaped":     noted,
	"Config.Image":           works, // engine/container
	"Config.Volumes":         works, // engine/mounts
	"Config.WorkingDir":      works,
	"Config.Entrypoint":      works,
	"Config.NetworkDisabled": works, // engine/container
	"Config.OnBuild":         noted,
	"Config.Labels":          noted,
	"Config.StopSignal":      works, // engine/container
	"Config.StopTimeout":     works, // engine/container
	"Config.Shell":           noted,

	"HostConfig.Binds":           works, // engine/mounts
	"HostConfig.ContainerIDFile": noted, // the client writes it
	"HostConfig.LogConfig":       works, // engine/logs
	"HostConfig.NetworkMode":     works,
	"HostConfig.PortBindings":    works, // engine/network
	"HostConfig.RestartPolicy":   works, // engine/container
	"HostConfig.AutoRemove":      works, // engine/container
	"HostConfig.VolumeDriver":    works, // engine/mounts
	"HostConfig.VolumesFrom":     works, // engine/mounts
	"HostConfig.ConsoleSize":     works,
	"HostConfig.Annotations":     works,
	"HostConfig.CapAdd":          works,
	"HostConfig.CapDrop":         works,
	"HostConfig.CgroupnsMode":    warned,
	"HostConfig.DNS":             works, // engine/network
	"HostConfig.DNSOptions":      works,
	"HostConfig.DNSSearch":       works,
	"HostConfig.ExtraHosts":      works,
	"HostConfig.GroupAdd":        works,
	"HostConfig.IpcMode":         works,
	"HostConfig.Cgroup":          refused,
	"HostConfig.Links":           works, // engine/network
	"HostConfig.OomScoreAdj":     warned,
	"HostConfig.PidMode":         works,
	"HostConfig.Privileged":      works,
	"HostConfig.PublishAllPorts": works, // engine/network
	"HostConfig.ReadonlyRootfs":  works,
	"HostConfig.SecurityOpt":     warned,
	"HostConfig.StorageOpt":      refused,
	"HostConfig.Tmpfs":           works, // engine/mounts
	"HostConfig.UTSMode":         works,
	"HostConfig.UsernsMode":      works,
	"HostConfig.ShmSize":         works,
	"HostConfig.Sysctls":         works,
	"HostConfig.Runtime":         refused, // but for the names of the only one
	"HostConfig.Umask":           works,
	"HostConfig.Isolation":       refused,
	"HostConfig.Resources":       works,
	"HostConfig.Mounts":          works, // engine/mounts
	"HostConfig.MaskedPaths":     works,
	"HostConfig.ReadonlyPaths":   works,
	"HostConfig.Init":            works,

	"Resources.CPUShares":            warned,
	"Resources.Memory":               warned,
	"Resources.NanoCPUs":             warned,
	"Resources.CgroupParent":         warned,
	"Resources.BlkioWeight":          warned,
	"Resources.BlkioWeightDevice":    warned,
	"Resources.BlkioDeviceReadBps":   warned,
	"Resources.BlkioDeviceWriteBps":  warned,
	"Resources.BlkioDeviceReadIOps":  warned,
	"Resources.BlkioDeviceWriteIOps": warned,
	"Resources.CPUPeriod":            warned,
	"Resources.CPUQuota":             warned,
	"Resources.CPURealtimePeriod":    refused,
	"Resources.CPURealtimeRuntime":   refused,
	"Resources.CpusetCpus":           warned,
	"Resources.CpusetMems":           warned,
	"Resources.Devices":              warned,
	"Resources.DeviceCgroupRules":    warned,
	"Resources.DeviceRequests":       works,
	"Resources.MemoryReservation":    warned,
	"Resources.MemorySwap":           warned,
	"Resources.MemorySwappiness":     warned,
	"Resources.OomKillDisable":       warned,
	"Resources.PidsLimit":            warned,
	"Resources.Ulimits":              works,
	"Resources.CPUCount":             refused,
	"Resources.CPUPercent":           refused,
	"Resources.IOMaximumIOps":        refused,
	"Resources.IOMaximumBandwidth":   refused,

	"Mount.Type":           works,
	"Mount.Source":         works,
	"Mount.Target":         works,
	"Mount.ReadOnly":       works,
	"Mount.Consistency":    works, // a bind on Linux is always consistent
	"Mount.BindOptions":    works,
	"Mount.VolumeOptions":  works,
	"Mount.ImageOptions":   works,
	"Mount.TmpfsOptions":   works,
	"Mount.ClusterOptions": refused,

	"BindOptions.Propagation":            works,
	"BindOptions.NonRecursive":           works,
	"BindOptions.CreateMountpoint":       works,
	"BindOptions.ReadOnlyNonRecursive":   works,
	"BindOptions.ReadOnlyForceRecursive": works,
	"VolumeOptions.NoCopy":               works,
	"VolumeOptions.Labels":               works,
	"VolumeOptions.Subpath":              works,
	"VolumeOptions.DriverConfig":         works,
	"ImageOptions.Subpath":               works,
	"TmpfsOptions.SizeBytes":             works,
	"TmpfsOptions.Mode":                  works,
	"TmpfsOptions.Options":               works,
	"Driver.Name":                        works,
	"Driver.Options":                     works,

	"LogConfig.Type":                  works, // engine/logs
	"LogConfig.Config":                works,
	"DeviceMapping.PathOnHost":        works,
	"DeviceMapping.PathInContainer":   works,
	"DeviceMapping.CgroupPermissions": warned,
	"DeviceRequest.Driver":            works,
	"DeviceRequest.Count":             works,
	"DeviceRequest.DeviceIDs":         works,
	"DeviceRequest.Capabilities":      works,
	"DeviceRequest.Options":           refused,
}

func TestEveryFieldHasAFate(t *testing.T) {
	seen := map[string]bool{}
	for _, v := range []any{
		container.Config{},
		container.HostConfig{},
		container.Resources{},
		container.LogConfig{},
		container.DeviceMapping{},
		container.DeviceRequest{},
		mount.Mount{},
		mount.BindOptions{},
		mount.VolumeOptions{},
		mount.ImageOptions{},
		mount.TmpfsOptions{},
		mount.ClusterOptions{},
		mount.Driver{},
	} {
		typ := reflect.TypeOf(v)
		for i := range typ.NumField() {
			name := typ.Name() + "." + typ.Field(i).Name
			seen[name] = true
			if fates[name] == "" {
				t.Errorf("%s: does it work, is it refused, or is there a warning? Say so in fates, and see to it", name)
			}
		}
	}
	for name := range fates {
		if !seen[name] {
			t.Errorf("%s is no field any more", name)
		}
	}
}

// bareHost is one that delegates nothing.
func bareHost() Host {
	return Host{Capabilities: knownCaps(), Seccomp: true, MaxID: 65536, OOMScoreAdj: 100, NetworkSysfs: true}
}

func TestRefusedFields(t *testing.T) {
	for _, tt := range []struct {
		field string
		set   func(*container.HostConfig)
	}{
		{"HostConfig.Cgroup", func(h *container.HostConfig) { h.Cgroup = "container:x" }},
		{"HostConfig.StorageOpt", func(h *container.HostConfig) { h.StorageOpt = map[string]string{"size": "1G"} }},
		{"HostConfig.Runtime", func(h *container.HostConfig) { h.Runtime = "nvidia" }},
		{"HostConfig.Isolation", func(h *container.HostConfig) { h.Isolation = "hyperv" }},
		{"Resources.CPURealtimePeriod", func(h *container.HostConfig) { h.CPURealtimePeriod = 1 }},
		{"Resources.CPURealtimeRuntime", func(h *container.HostConfig) { h.CPURealtimeRuntime = 1 }},
		{"Resources.CPUCount", func(h *container.HostConfig) { h.CPUCount = 1 }},
		{"Resources.CPUPercent", func(h *container.HostConfig) { h.CPUPercent = 1 }},
		{"Resources.IOMaximumIOps", func(h *container.HostConfig) { h.IOMaximumIOps = 1 }},
		{"Resources.IOMaximumBandwidth", func(h *container.HostConfig) { h.IOMaximumBandwidth = 1 }},
		{"DeviceRequest.Options", func(h *container.HostConfig) {
			h.DeviceRequests = []container.DeviceRequest{{Capabilities: [][]string{{"gpu"}}, Options: map[string]string{"a": "b"}}}
		}},
	} {
		t.Run(tt.field, func(t *testing.T) {
			var hc container.HostConfig
			tt.set(&hc)
			if _, err := Validate(&container.Config{}, &hc, bareHost()); err == nil {
				t.Error("not refused")
			}
		})
	}
}

func TestDiscardedFieldsAreWarnedAboutAndCleared(t *testing.T) {
	yes, limit := true, int64(10)
	for _, tt := range []struct {
		field, warning string
		set            func(*container.HostConfig)
	}{
		{"CPUShares", "Shares discarded", func(h *container.HostConfig) { h.CPUShares = 512 }},
		{"Memory", "memory limit capabilities or the cgroup is not mounted. Limitation discarded", func(h *container.HostConfig) { h.Memory = 1 << 30 }},
		{"NanoCPUs", "CPU limit discarded", func(h *container.HostConfig) { h.NanoCPUs = 1e9 }},
		{"CgroupParent", "cgroup parent is discarded", func(h *container.HostConfig) { h.CgroupParent = "/x" }},
		{"BlkioWeight", "Weight discarded", func(h *container.HostConfig) { h.BlkioWeight = 500 }},
		{"CPUPeriod", "CPU period/quota discarded", func(h *container.HostConfig) { h.CPUPeriod = 100000 }},
		{"CPUQuota", "CPU period/quota discarded", func(h *container.HostConfig) { h.CPUQuota = 100000 }},
		{"CpusetCpus", "CPUset discarded", func(h *container.HostConfig) { h.CpusetCpus = "0" }},
		{"CpusetMems", "CPUset discarded", func(h *container.HostConfig) { h.CpusetMems = "0" }},
		{"DeviceCgroupRules", "rules discarded", func(h *container.HostConfig) { h.DeviceCgroupRules = []string{"c 1:3 r"} }},
		{"MemoryReservation", "soft limit capabilities", func(h *container.HostConfig) { h.MemoryReservation = 1 << 30 }},
		{"MemorySwappiness", "swappiness discarded", func(h *container.HostConfig) { h.MemorySwappiness = &limit }},
		{"OomKillDisable", "OomKillDisable discarded", func(h *container.HostConfig) { h.OomKillDisable = &yes }},
		{"PidsLimit", "PIDs limit discarded", func(h *container.HostConfig) { h.PidsLimit = &limit }},
	} {
		t.Run(tt.field, func(t *testing.T) {
			var hc container.HostConfig
			tt.set(&hc)
			warnings, err := Validate(&container.Config{}, &hc, bareHost())
			if err != nil {
				t.Fatal(err)
			}
			if len(warnings) != 1 || !strings.Contains(warnings[0], tt.warning) {
				t.Errorf("warnings: %q, want one with %q", warnings, tt.warning)
			}
			if f := reflect.ValueOf(hc.Resources).FieldByName(tt.field); !f.IsZero() {
				t.Errorf("inspect would show %v", f)
			}
		})
	}
	hc := container.HostConfig{OomScoreAdj: -500, CgroupnsMode: "private", SecurityOpt: []string{"apparmor=mine", "label=type:x"}}
	warnings, err := Validate(&container.Config{}, &hc, bareHost())
	if err != nil || len(warnings) != 4 {
		t.Errorf("warnings: %q, %v; want four", warnings, err)
	}
}

func TestNoWarningWhereTheHostHasAll(t *testing.T) {
	limit := int64(10)
	hc := container.HostConfig{Resources: container.Resources{
		CPUShares: 512, Memory: 1 << 30, MemoryReservation: 1 << 29, NanoCPUs: 1e9, CpusetCpus: "0", PidsLimit: &limit, BlkioWeight: 500,
		BlkioWeightDevice:    []*blkiodev.WeightDevice{{Path: "/dev/null", Weight: 300}},
		BlkioDeviceReadBps:   []*blkiodev.ThrottleDevice{{Path: "/dev/null", Rate: 1}},
		BlkioDeviceWriteBps:  []*blkiodev.ThrottleDevice{{Path: "/dev/null", Rate: 2}},
		BlkioDeviceReadIOps:  []*blkiodev.ThrottleDevice{{Path: "/dev/null", Rate: 3}},
		BlkioDeviceWriteIOps: []*blkiodev.ThrottleDevice{{Path: "/dev/null", Rate: 4}},
	}}
	in := testInput(t)
	warnings, err := Validate(in.Config, &hc, in.Host)
	if err != nil || len(warnings) > 0 {
		t.Fatalf("warnings: %q, %v", warnings, err)
	}
	r := Resources(hc.Resources, in.Host)
	switch {
	case r.Memory == nil || *r.Memory.Limit != 1<<30 || *r.Memory.Swap != 2<<30 || *r.Memory.Reservation != 1<<29:
		t.Errorf("memory: %+v", r.Memory)
	case r.CPU == nil || *r.CPU.Quota != 100000 || *r.CPU.Period != 100000 || *r.CPU.Shares != 512 || r.CPU.Cpus != "0":
		t.Errorf("cpu: %+v", r.CPU)
	case r.Pids == nil || *r.Pids.Limit != 10:
		t.Errorf("pids: %+v", r.Pids)
	case r.BlockIO == nil || *r.BlockIO.Weight != 500:
		t.Errorf("io: %+v", r.BlockIO)
	}
	if w := r.BlockIO.WeightDevice; len(w) != 1 || *w[0].Weight != 300 || w[0].Major != 1 || w[0].Minor != 3 {
		t.Errorf("weight of a device: %+v", w)
	}
	for i, list := range [][]specs.LinuxThrottleDevice{
		r.BlockIO.ThrottleReadBpsDevice, r.BlockIO.ThrottleWriteBpsDevice, r.BlockIO.ThrottleReadIOPSDevice, r.BlockIO.ThrottleWriteIOPSDevice,
	} {
		if len(list) != 1 || list[0].Rate != uint64(i+1) || list[0].Major != 1 || list[0].Minor != 3 {
			t.Errorf("limit %d of a device: %+v", i, list)
		}
	}
	if !slices.Equal(hc.MaskedPaths, hiddenHere()) || hc.Runtime != "runc" || hc.IpcMode != "private" || hc.ShmSize != DefaultShmSize {
		t.Errorf("defaults are not filled in: %+v", hc)
	}
}
