// Package spec turns Docker's container.Config and container.HostConfig into
// the OCI runtime-spec that the keeper runs.
//
// Validate says at create what cannot be had; Build and Process describe the
// container and its processes at start and exec. They read the image's files
// and the host's state but change nothing.
package spec

import (
	"fmt"
	"maps"

	"github.com/moby/moby/api/types/container"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/kelp-engine/kelp/engine/fault"
	"github.com/kelp-engine/kelp/engine/keeper"
	"github.com/kelp-engine/kelp/engine/mounts"
)

// Input is all that a container's spec is made of.
type Input struct {
	// Config is the client's merged with the image's. Its Hostname is set.
	Config     *container.Config
	HostConfig *container.HostConfig
	// Rootfs is the container's root file system, mounted.
	Rootfs string
	// Mounts come from volume.Manager.Mount: each Source is there.
	Mounts []mounts.Point
	// Hosts, Hostname and ResolvConf are the files to mount over those in
	// /etc; "" leaves the image's.
	Hosts, Hostname, ResolvConf string
	// Env are variables that come before those of Config.
	Env []string
	// Shm is the mounted tmpfs to use as /dev/shm, which containers that
	// share their IPC namespace have in common; "" makes a new one.
	Shm string
	// Join names the processes whose namespaces the modes "container:" mean.
	Join Join
	// Init is the path of the program that `--init` puts in front.
	Init string
	Host Host
}

// Join holds pids, in kelp's numbering, of running containers whose
// namespaces are joined; 0 where none is.
type Join struct {
	Network, IPC, PID int
}

// Build describes a container for the keeper.
//
// Preconditions: Validate found no error in Config and HostConfig.
func Build(in Input) (*specs.Spec, error) {
	process, err := initProcess(in)
	if err != nil {
		return nil, err
	}
	s := &specs.Spec{
		Version:     specs.Version,
		Process:     process,
		Root:        &specs.Root{Path: in.Rootfs, Readonly: in.HostConfig.ReadonlyRootfs},
		Annotations: annotations(in),
		Linux: &specs.Linux{
			Namespaces: namespaces(in),
			Sysctl:     sysctls(in),
			Resources:  Resources(in.HostConfig.Resources, in.Host),
		},
	}
	if !in.HostConfig.UTSMode.IsHost() {
		s.Hostname, s.Domainname = in.Config.Hostname, in.Config.Domainname
	}
	for _, p := range in.Mounts {
		if p.ReadOnlyForceRecursive && !in.Host.RecursiveReadOnly {
			return nil, fault.InvalidArgument("cannot make the mount %s recursively read-only: the kernel is older than 5.12", p.Target)
		}
	}
	s.Mounts = allMounts(in)
	if err := keepIDs(s, in); err != nil {
		return nil, err
	}
	if err := secure(s, in); err != nil {
		return nil, err
	}
	if err := addDevices(s, in); err != nil {
		return nil, err
	}
	return s, nil
}

// namespaces lists the container's own namespaces and those it joins; one
// that it shares with kelp is left out. The user namespace is kelp's.
func namespaces(in Input) []specs.LinuxNamespace {
	hc := in.HostConfig
	list := []specs.LinuxNamespace{{Type: specs.MountNamespace}}
	add := func(t specs.LinuxNamespaceType, file string, host bool, pid int) {
		switch {
		case pid != 0:
			list = append(list, specs.LinuxNamespace{Type: t, Path: fmt.Sprintf("/proc/%d/ns/%s", pid, file)})
		case !host:
			list = append(list, specs.LinuxNamespace{Type: t})
		}
	}
	add(specs.NetworkNamespace, "net", hc.NetworkMode.IsHost(), in.Join.Network)
	add(specs.IPCNamespace, "ipc", hc.IpcMode.IsHost(), in.Join.IPC)
	add(specs.PIDNamespace, "pid", hc.PidMode.IsHost(), in.Join.PID)
	add(specs.UTSNamespace, "uts", hc.UTSMode.IsHost(), 0)
	if in.Host.CgroupNamespace {
		add(specs.CgroupNamespace, "cgroup", hc.CgroupnsMode.IsHost(), 0)
	}
	return list
}

// annotations are handed to the runtime as they are.
func annotations(in Input) map[string]string {
	out := maps.Clone(in.HostConfig.Annotations)
	if keepsGroups(in.HostConfig) {
		if out == nil {
			out = map[string]string{}
		}
		out[keeper.KeepGroups] = "1"
	}
	return out
}

// sysctls are the client's, and Docker's defaults for a network namespace of
// the container's own: unprivileged ping and ports.
func sysctls(in Input) map[string]string {
	out := map[string]string{}
	if m := in.HostConfig.NetworkMode; !m.IsHost() && !m.IsContainer() {
		out["net.ipv4.ip_unprivileged_port_start"] = "0"
		out["net.ipv4.ping_group_range"] = pingGroups(in.Host)
		if kept, _ := KeptIDs(in.HostConfig, in.Host); kept != nil && m.IsNone() {
			// The container itself writes it, and its ids are in another order
			// than kelp's: one group is a range in both. Root needs none.
			out["net.ipv4.ping_group_range"] = fmt.Sprintf("%d\t%d", kept.GID, kept.GID)
		}
	}
	for k, v := range in.HostConfig.Sysctls {
		out[k] = v
	}
	return out
}
