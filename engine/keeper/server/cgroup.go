package server

import (
	"fmt"
	"log/slog"

	"golang.org/x/sys/unix"

	"github.com/kelp-engine/kelp/engine/runtime"
	"github.com/kelp-engine/kelp/userns/cgroup"
)

// prepareCgroups removes what an earlier keeper left, and mounts the unified
// hierarchy where libcontainer looks for it: there are hosts that have cgroup
// v1 there and the unified hierarchy, with a cgroup that is delegated to us,
// elsewhere. The mount is seen in our namespace only.
func prepareCgroups(dataRoot string) error {
	const where = "/sys/fs/cgroup"
	info := cgroup.Probe().Of(dataRoot)
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
