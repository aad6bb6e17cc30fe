package engine

import "github.com/kelp-engine/kelp/userns/cgroup"

// usableCgroups takes cgroups away where libcontainer would not find them: it
// looks for the unified hierarchy in one place, and takes what it finds there
// on hosts that have cgroup v1 as well for v1's.
func usableCgroups(i cgroup.Info) cgroup.Info {
	if i.Driver == cgroup.None || i.Mount == "/sys/fs/cgroup" {
		return i
	}
	return cgroup.Info{
		Driver: cgroup.None, Version: i.Version, Mount: i.Mount,
		Reason: "the host's controllers are those of cgroup v1",
		Hint:   "ask the administrator to boot with systemd.unified_cgroup_hierarchy=1",
	}
}
