package spec

import (
	"maps"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/container"

	"github.com/kelp-engine/kelp/engine/fault"
)

// ipcSysctls are the kernel's settings that an IPC namespace has of its own,
// besides those below fs.mqueue.
var ipcSysctls = []string{
	"kernel.msgmax",
	"kernel.msgmnb",
	"kernel.msgmni",
	"kernel.sem",
	"kernel.shmall",
	"kernel.shmmax",
	"kernel.shmmni",
	"kernel.shm_rmid_forced",
}

// checkSysctls refuses settings that are not of the container's own
// namespaces, as they would be the host's.
func checkSysctls(hc *container.HostConfig) error {
	for _, key := range slices.Sorted(maps.Keys(hc.Sysctls)) {
		name := strings.ReplaceAll(key, "/", ".")
		switch {
		case strings.Contains(name, "..") || strings.ContainsRune(name+hc.Sysctls[key], 0):
			return fault.InvalidArgument("invalid sysctl %q", key)
		case strings.HasPrefix(name, "net."):
			if hc.NetworkMode.IsHost() {
				return fault.InvalidArgument("sysctl %q not allowed in host network namespace", key)
			}
		case slices.Contains(ipcSysctls, name) || strings.HasPrefix(name, "fs.mqueue."):
			if hc.IpcMode.IsHost() {
				return fault.InvalidArgument("sysctl %q is not allowed in the hosts ipc namespace", key)
			}
		case name == "kernel.domainname":
			if hc.UTSMode.IsHost() {
				return fault.InvalidArgument("sysctl %q is not allowed in the hosts uts namespace", key)
			}
		case name == "kernel.hostname":
			return fault.InvalidArgument("sysctl %q is not allowed as it conflicts with the hostname", key).WithHint("use --hostname")
		default:
			return fault.InvalidArgument("sysctl %q is not in a separate kernel namespace", key)
		}
	}
	return nil
}
