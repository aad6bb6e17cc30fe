package system

import (
	"context"
	"net/url"
	"os"
	"path"
	"runtime"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/swarm"
	"github.com/moby/moby/api/types/system"

	"github.com/kelp-engine/kelp/engine/spec"
	"github.com/kelp-engine/kelp/userns/cgroup"
)

// Info returns what `docker info` shows.
func (m *Manager) Info(ctx context.Context) (system.Info, error) {
	host := readHost()
	info := system.Info{
		ID:                  m.id,
		Debug:               m.o.Debug,
		NFd:                 openFiles(),
		NGoroutines:         runtime.NumGoroutine(),
		NEventsListener:     m.o.Listeners(),
		SystemTime:          time.Now().Format(time.RFC3339Nano),
		LoggingDriver:       "json-file",
		KernelVersion:       host.kernel,
		OperatingSystem:     host.system,
		OSVersion:           host.systemVersion,
		OSType:              runtime.GOOS,
		Architecture:        host.machine,
		NCPU:                runtime.NumCPU(),
		MemTotal:            host.memory,
		IPv4Forwarding:      host.forwarding,
		DefaultAddressPools: m.o.Pools,
		Name:                host.name,
		Labels:              []string{},
		DockerRootDir:       m.o.DataRoot,
		HTTPProxy:           proxy("HTTP_PROXY", "http_proxy"),
		HTTPSProxy:          proxy("HTTPS_PROXY", "https_proxy"),
		NoProxy:             env("NO_PROXY", "no_proxy"),
		ServerVersion:       m.o.Version,
		Runtimes:            map[string]system.RuntimeWithStatus{spec.DefaultRuntime: {Runtime: system.Runtime{Path: "kelp"}}},
		DefaultRuntime:      spec.DefaultRuntime,
		Swarm:               swarm.Info{LocalNodeState: swarm.LocalNodeStateInactive, RemoteManagers: []swarm.Peer{}},
		LiveRestoreEnabled:  true,
		InitBinary:          path.Base(spec.InitPath),
		InitCommit:          system.Commit{ID: m.o.Version}, // a part of kelp
		IndexServerAddress:  "https://index.docker.io/v1/",
		RegistryConfig:      m.o.Registries,
		CDISpecDirs:         cdiDirs(),
		RuncCommit:          system.Commit{ID: m.version("libcontainer")},
		Plugins: system.PluginsInfo{
			Volume:  []string{"local"},
			Network: m.o.Networks.Drivers(ctx),
			Log:     []string{"json-file", "local"},
		},
	}
	m.limits(&info)
	m.security(&info)
	m.count(&info)
	return info, m.storage(ctx, &info)
}

// count fills in how many containers there are.
func (m *Manager) count(info *system.Info) {
	for _, state := range m.o.Containers.States() {
		info.Containers++
		switch state {
		case container.StateRunning:
			info.ContainersRunning++
		case container.StatePaused:
			info.ContainersPaused++
		default:
			info.ContainersStopped++
		}
	}
}

func (m *Manager) storage(ctx context.Context, info *system.Info) (err error) {
	var reason string
	info.Driver, reason = m.o.Images.Driver()
	if reason != "" {
		info.Warnings = append(info.Warnings, "WARNING: images are stored by "+info.Driver+": "+reason)
	}
	if info.DriverStatus, err = m.o.Images.DriverStatus(); err != nil {
		return err
	}
	info.Images, err = m.o.Images.Count(ctx)
	return err
}

// limits fills in which limits can be applied to containers, with a warning
// for each that cannot.
func (m *Manager) limits(info *system.Info) {
	c := m.o.Cgroups
	info.CgroupDriver, info.CgroupVersion = string(c.Driver), "1"
	if c.Version == 2 {
		info.CgroupVersion = "2"
	}
	if c.Reason != "" {
		text := "WARNING: containers have no resource limits, or not all: " + c.Reason
		if c.Hint != "" {
			text += ": " + c.Hint
		}
		info.Warnings = append(info.Warnings, text)
	}
	for _, limit := range []struct {
		controller string
		name       string
		fields     []*bool
	}{
		{"memory", "memory limit", []*bool{&info.MemoryLimit}},
		{"memory", "swap limit", []*bool{&info.SwapLimit}},
		{"cpu", "cpu shares", []*bool{&info.CPUShares}},
		{"cpu", "cpu cfs quota", []*bool{&info.CPUCfsQuota, &info.CPUCfsPeriod}},
		{"cpuset", "cpuset", []*bool{&info.CPUSet}},
		{"pids", "pids limit", []*bool{&info.PidsLimit}},
		{"io", "blkio limit", nil},
	} {
		has := m.o.Host.Controllers[limit.controller]
		for _, f := range limit.fields {
			*f = has
		}
		if !has {
			info.Warnings = append(info.Warnings, "WARNING: No "+limit.name+" support")
		}
	}
	if c.Driver == cgroup.None {
		info.Warnings = append(info.Warnings, "WARNING: No cgroups: pause stops the processes of a container one by one, stats come from /proc")
	}
}

func (m *Manager) security(info *system.Info) {
	h := m.o.Host
	info.SecurityOptions = []string{}
	for _, o := range []struct {
		has  bool
		name string
	}{
		{h.AppArmor, "name=apparmor"},
		{h.Seccomp, "name=seccomp,profile=builtin"},
		{true, "name=rootless"},
		{h.CgroupNamespace, "name=cgroupns"},
	} {
		if o.has {
			info.SecurityOptions = append(info.SecurityOptions, o.name)
		}
	}
	if !h.Seccomp {
		info.Warnings = append(info.Warnings, "WARNING: No seccomp: the kernel does not filter system calls")
	}
}

func env(names ...string) string {
	for _, name := range names {
		if v := os.Getenv(name); v != "" {
			return v
		}
	}
	return ""
}

// proxy returns a proxy's address without its password.
func proxy(names ...string) string {
	v := env(names...)
	u, err := url.Parse(v)
	if err != nil || u.User == nil {
		return v
	}
	u.User = url.UserPassword("xxxxx", "xxxxx")
	return u.String()
}
