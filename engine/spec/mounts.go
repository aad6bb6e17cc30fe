package spec

import (
	"fmt"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/kelp-engine/kelp/engine/mounts"
)

// DefaultShmSize is the size of /dev/shm when none is asked for, in bytes.
const DefaultShmSize = 64 << 20

// allMounts lists the system's mounts, but those that the user's take the
// place of, then the user's, parents before what lies in them.
func allMounts(in Input) []specs.Mount {
	user := slices.Clone(in.Mounts)
	slices.SortStableFunc(user, func(a, b mounts.Point) int {
		return depth(a.Target) - depth(b.Target)
	})
	taken := map[string]bool{}
	for _, p := range user {
		taken[p.Target] = true
	}
	var out []specs.Mount
	for _, m := range slices.Concat(systemMounts(in), fileMounts(in)) {
		if !taken[m.Destination] && (!taken["/dev"] || !strings.HasPrefix(m.Destination, "/dev/")) {
			out = append(out, m)
		}
	}
	for _, p := range user {
		out = append(out, pointMount(p, in))
	}
	return append(out, initMount(in)...)
}

func depth(p string) int { return strings.Count(path.Clean(p), "/") }

// systemMounts are the file systems that every Linux program expects.
func systemMounts(in Input) []specs.Mount {
	hc := in.HostConfig
	out := []specs.Mount{
		procMount(hc),
		{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
		{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: ptsOptions(in.Host)},
		sysMount(hc, in.Join, in.Host),
	}
	if in.Host.CgroupNamespace {
		out = append(out, specs.Mount{
			Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup",
			Options: []string{"nosuid", "noexec", "nodev", access(writableCgroups(hc))},
		})
	}
	return append(out, ipcMounts(in)...)
}

// procMount is a new proc, or the host's where the container shares the
// host's PID namespace, which kelp may not mount anew.
func procMount(hc *container.HostConfig) specs.Mount {
	if hc.PidMode.IsHost() {
		return specs.Mount{Destination: "/proc", Type: "bind", Source: "/proc", Options: []string{"rbind", "rprivate", "nosuid", "noexec", "nodev"}}
	}
	return specs.Mount{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}}
}

// sysMount is a new sysfs, or the host's where the container shares the
// host's network namespace, whose sysfs kelp may not mount anew.
func sysMount(hc *container.HostConfig, join Join, h Host) specs.Mount {
	if hc.NetworkMode.IsHost() || !h.NetworkSysfs || usernsMode(hc) != "" && !hc.NetworkMode.IsNone() {
		return specs.Mount{Destination: "/sys", Type: "bind", Source: "/sys", Options: []string{"rbind", "rprivate", "nosuid", "noexec", "nodev", access(hc.Privileged)}}
	}
	return specs.Mount{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", access(hc.Privileged)}}
}

// ptsOptions gives terminals to group 5 (tty) where there is one.
func ptsOptions(h Host) []string {
	o := []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"}
	if h.MaxID >= 5 {
		o = append(o, "gid=5")
	}
	return o
}

// ipcMounts are the file systems of the IPC namespace.
func ipcMounts(in Input) []specs.Mount {
	mode := in.HostConfig.IpcMode
	if mode.IsHost() {
		var out []specs.Mount
		for _, dir := range []string{"/dev/shm", "/dev/mqueue"} { // what the host has of them
			if _, err := os.Stat(dir); err == nil {
				out = append(out, specs.Mount{Destination: dir, Type: "bind", Source: dir, Options: []string{"rbind", "rprivate", "nosuid", "noexec", "nodev"}})
			}
		}
		return out
	}
	out := []specs.Mount{{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}}}
	switch {
	case mode.IsNone():
	case in.Shm != "":
		out = append(out, specs.Mount{Destination: "/dev/shm", Type: "bind", Source: in.Shm, Options: []string{"rbind", "rprivate", "nosuid", "noexec", "nodev"}})
	default:
		out = append(out, specs.Mount{Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Options: []string{"nosuid", "noexec", "nodev", "mode=1777", sizeOption(ShmSize(in.HostConfig))}})
	}
	return out
}

// ShmSize is the size of the container's /dev/shm in bytes.
func ShmSize(hc *container.HostConfig) int64 {
	if hc.ShmSize > 0 {
		return hc.ShmSize
	}
	return DefaultShmSize
}

// fileMounts put the engine's files over those of the image.
func fileMounts(in Input) []specs.Mount {
	var out []specs.Mount
	for _, f := range []struct{ source, target string }{
		{in.ResolvConf, "/etc/resolv.conf"},
		{in.Hostname, "/etc/hostname"},
		{in.Hosts, "/etc/hosts"},
	} {
		if f.source != "" {
			out = append(out, specs.Mount{Destination: f.target, Type: "bind", Source: f.source, Options: []string{"rbind", "rprivate", access(!in.HostConfig.ReadonlyRootfs)}})
		}
	}
	return out
}

func initMount(in Input) []specs.Mount {
	if in.HostConfig.Init == nil || !*in.HostConfig.Init {
		return nil
	}
	return []specs.Mount{{Destination: InitPath, Type: "bind", Source: in.Init, Options: []string{"bind", "rprivate", "ro"}}}
}

// pointMount is a mount that the user asked for.
func pointMount(p mounts.Point, in Input) specs.Mount {
	if p.Type == mount.TypeTmpfs {
		return specs.Mount{Destination: p.Target, Type: "tmpfs", Source: "tmpfs", Options: p.TmpfsOptions}
	}
	m := specs.Mount{Destination: p.Target, Type: "bind", Source: p.Source}
	recursive := "rbind"
	if p.NonRecursive {
		recursive = "bind"
	}
	m.Options = []string{recursive, propagation(p)}
	switch {
	case !p.ReadOnly:
	case p.ReadOnlyNonRecursive || p.NonRecursive:
		m.Options = append(m.Options, "ro")
	case in.Host.RecursiveReadOnly:
		m.Options = append(m.Options, "ro", "rro")
	default:
		m.Options = append(m.Options, "ro")
	}
	return m
}

func propagation(p mounts.Point) string {
	if p.Propagation == "" {
		return string(mount.PropagationRPrivate)
	}
	return string(p.Propagation)
}

func access(write bool) string {
	if write {
		return "rw"
	}
	return "ro"
}

func sizeOption(bytes int64) string { return fmt.Sprintf("size=%d", bytes) }
