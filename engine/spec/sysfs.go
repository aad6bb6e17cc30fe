package spec

import (
	"fmt"
	"slices"
	"strings"

	"github.com/moby/sys/mountinfo"
)

// kernelDirs are the file systems that the kernel itself has directories for
// in sysfs; mounted there, they hide nothing.
var kernelDirs = []string{
	"cgroup", "cgroup2", "debugfs", "tracefs", "securityfs", "configfs", "bpf", "pstore", "fusectl", "efivarfs", "selinuxfs",
}

// sysfsVisible says whether a user namespace may mount a sysfs: the kernel
// forbids it where something, as in a container, hides a part of the one that
// is there.
func sysfsVisible() (bool, error) {
	list, err := mountinfo.GetMounts(func(i *mountinfo.Info) (skip, stop bool) {
		return i.Mountpoint != "/sys" && !strings.HasPrefix(i.Mountpoint, "/sys/"), false
	})
	if err != nil {
		return false, fmt.Errorf("cannot read the mounts: %w", err)
	}
	return sysfsVisibleIn(list), nil
}

// sysfsVisibleIn is sysfsVisible for the mounts at and below /sys.
func sysfsVisibleIn(list []*mountinfo.Info) bool {
	whole := false
	for _, i := range list {
		switch {
		case i.Mountpoint == "/sys":
			whole = i.FSType == "sysfs" && i.Root == "/"
		case slices.Contains(kernelDirs, i.FSType):
		case i.Mountpoint == "/sys/fs/cgroup", strings.HasPrefix(i.Mountpoint, "/sys/fs/cgroup/"):
		default:
			return false
		}
	}
	return whole
}
