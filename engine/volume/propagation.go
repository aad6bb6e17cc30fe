package volume

import (
	"strings"

	"github.com/moby/moby/api/types/mount"
	"github.com/moby/sys/mountinfo"

	"github.com/kelp-engine/kelp/engine/fault"
	"github.com/kelp-engine/kelp/engine/mounts"
)

// checkPropagation refuses a bind that is to share mounts with the host where
// its source does not. Mounts made in kelp's namespace never reach the host,
// so shared ones cannot be had; slave ones, which follow the host's, can.
func checkPropagation(p mounts.Point) error {
	if p.Type != mount.TypeBind {
		return nil
	}
	var want []string
	var kind string
	switch p.Propagation {
	case mount.PropagationShared, mount.PropagationRShared:
		want, kind = []string{"shared:"}, "a shared"
	case mount.PropagationSlave, mount.PropagationRSlave:
		want, kind = []string{"shared:", "master:"}, "a shared or slave"
	default:
		return nil
	}
	parents, err := mountinfo.GetMounts(mountinfo.ParentsFilter(p.Source))
	if err != nil {
		return err
	}
	var at *mountinfo.Info
	for _, i := range parents {
		if at == nil || len(i.Mountpoint) >= len(at.Mountpoint) { // of two on one path the later counts
			at = i
		}
	}
	if at == nil {
		return fault.Internal("cannot find the mount of %s", p.Source)
	}
	for _, field := range strings.Fields(at.Optional) {
		for _, prefix := range want {
			if strings.HasPrefix(field, prefix) {
				return nil
			}
		}
	}
	return fault.InvalidArgument("path %s is mounted on %s but it is not %s mount", p.Source, at.Mountpoint, kind)
}
