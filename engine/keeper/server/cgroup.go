package server

import (
	"fmt"
	"log/slog"
	goruntime "runtime"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/kelp-engine/kelp/engine/runtime"
	"github.com/kelp-engine/kelp/userns/cgroup"
)

// prepareCgroups removes what an earlier keeper left, and mounts the unified
// hierarchy where libcontainer looks for it: there are hosts that have cgroup
// v1 there and the unified hierarchy, with a cgroup that is delegated to us,
// elsewhere, and some that have none mounted. The mount is seen in our
// namespace only.
func prepareCgroups(dataRoot string) error {
	const where = "/sys/fs/cgroup"
	info := cgroup.Probe().Of(dataRoot)
	if info.Mount == "" {
		return ensureCgroups(where)
	}
	if info.Driver != cgroup.FS {
		return nil
	}
	if err := runtime.RemoveCgroups(info.Dir(info.Base)); err != nil {
		slog.Warn("an earlier keeper's containers are not gone", "error", err)
	}
	if info.Mount == where {
		return nil
	}
	if err := unix.Mount(info.Mount, where, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("cannot mount %s at %s: %w", info.Mount, where, err)
	}
	return nil
}

// ensureCgroups mounts the unified hierarchy where no cgroups are mounted at
// all, as within another container: libcontainer starts nothing there.
//
// The root of a user namespace may mount it from a cgroup namespace of its
// own only (cgroup_namespaces(7)). That is made for a thread which ends with
// this: no process is in it.
func ensureCgroups(where string) error {
	if mounts, err := mountinfo.GetMounts(mountinfo.FSTypeFilter("cgroup")); err != nil || len(mounts) > 0 {
		return err
	}
	failure := make(chan error)
	go func() {
		goruntime.LockOSThread()
		err := unix.Unshare(unix.CLONE_NEWCGROUP)
		if err == nil {
			err = unix.Mount("cgroup2", where, "cgroup2", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "")
		}
		failure <- err
	}()
	if err := <-failure; err != nil {
		return fmt.Errorf("no cgroups are mounted, and the unified hierarchy cannot be mounted at %s: %w", where, err)
	}
	return nil
}
