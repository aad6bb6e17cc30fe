package spec

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/moby/moby/api/types/container"

	"github.com/kelp-engine/kelp/engine/fault"
	"github.com/kelp-engine/kelp/engine/keeper"
)

// keepGroups is podman's name for the supplementary groups of who runs it.
const keepGroups = "keep-groups"

// keepsGroups says whether the container's processes have the supplementary
// groups of kelp's user. Such a group is no number that could be listed: the
// user namespace has none for it.
func keepsGroups(hc *container.HostConfig) bool {
	return slices.Contains(hc.GroupAdd, keepGroups) || hc.Annotations[keeper.KeepGroups] == "1"
}

// checkGroups refuses what cannot be added to groups that are kept: the
// kernel sets all of a process's groups at once, or none.
func checkGroups(hc *container.HostConfig) error {
	others := slices.DeleteFunc(slices.Clone(hc.GroupAdd), func(g string) bool { return g == keepGroups })
	if keepsGroups(hc) && len(others) > 0 {
		return fault.InvalidArgument("the group-add %s cannot be combined with others: a process keeps the groups it has, or gets new ones", keepGroups).
			WithHint("leave out %s or %q", keepGroups, others)
	}
	return nil
}

// warnGroups tells that a number, in the container, is another group than on
// the host.
func warnGroups(hc *container.HostConfig, h Host) (warnings []string) {
	for _, g := range hc.GroupAdd {
		gid, err := strconv.ParseUint(g, 10, 32)
		if err != nil || uint32(gid) > h.MaxID || !slices.Contains(h.Groups, uint32(gid)) {
			continue
		}
		if kept, _ := KeptIDs(hc, h); kept == nil || kept.GID != uint32(gid) {
			warnings = append(warnings, fmt.Sprintf("Group %d of the container is not your group %d of the host. To use your groups there is --group-add %s.", gid, gid, keepGroups))
		}
	}
	return warnings
}
