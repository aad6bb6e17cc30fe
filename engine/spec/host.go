package spec

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"github.com/moby/sys/capability"
	"golang.org/x/sys/unix"

	"github.com/kelp-engine/kelp/userns/account"
)

// Host is what the machine and the user namespace let containers have.
type Host struct {
	// Controllers are the cgroup v2 controllers that containers' limits can
	// be applied with: cpu, cpuset, io, memory, pids, hugetlb.
	Controllers map[string]bool
	// CgroupNamespace says that containers can have cgroup namespaces, and
	// with them a /sys/fs/cgroup.
	CgroupNamespace bool
	// AppArmor says that kelp may put containers under AppArmor profiles.
	AppArmor bool
	// Seccomp says that the kernel filters system calls.
	Seccomp bool
	// Capabilities are all that the user namespace has, as "CAP_CHOWN".
	Capabilities []string
	// MaxID is the highest user and group id of the user namespace, all from
	// 0 on being mapped; 0 where there is root only.
	MaxID uint32
	// User is who root of the user namespace is outside of it.
	User IDs
	// Groups are the user's supplementary groups outside, which have no ids
	// in the user namespace.
	Groups []uint32
	// OOMScoreAdj is kelp's own, the lowest that containers can have.
	OOMScoreAdj int
	// NetworkSysfs says that a new sysfs can be mounted for a network
	// namespace; where the host hides parts of /sys it cannot.
	NetworkSysfs bool
	// RecursiveReadOnly says that a mount and all below it can be made
	// read-only (Linux 5.12).
	RecursiveReadOnly bool
}

// Probe finds out what this process's machine and user namespace have. The
// caller sets Controllers and CgroupNamespace from package cgroup.
func Probe() (Host, error) {
	h := Host{}
	caps, err := capability.NewPid2(0)
	if err != nil {
		return h, err
	}
	if err := caps.Load(); err != nil {
		return h, fmt.Errorf("cannot read the process's capabilities: %w", err)
	}
	for _, c := range capability.ListKnown() {
		if caps.Get(capability.BOUNDING, c) {
			h.Capabilities = append(h.Capabilities, "CAP_"+strings.ToUpper(c.String()))
		}
	}
	if h.MaxID, err = maxID("/proc/self/uid_map"); err != nil {
		return h, err
	}
	gid, err := maxID("/proc/self/gid_map")
	if err != nil {
		return h, err
	}
	h.MaxID = min(h.MaxID, gid)
	if h.User.UID, err = outside("/proc/self/uid_map"); err != nil {
		return h, err
	}
	if h.User.GID, err = outside("/proc/self/gid_map"); err != nil {
		return h, err
	}
	h.Groups = account.Groups()
	adj, err := os.ReadFile("/proc/self/oom_score_adj")
	if err != nil {
		return h, err
	}
	if h.OOMScoreAdj, err = strconv.Atoi(strings.TrimSpace(string(adj))); err != nil {
		return h, err
	}
	_, err = unix.PrctlRetInt(unix.PR_GET_SECCOMP, 0, 0, 0, 0)
	h.Seccomp = err == nil
	if h.NetworkSysfs, err = sysfsVisible(); err != nil {
		return h, err
	}
	err = unix.MountSetattr(-1, "", unix.AT_EMPTY_PATH, &unix.MountAttr{})
	h.RecursiveReadOnly = !errors.Is(err, unix.ENOSYS)
	// Loading a profile needs CAP_MAC_ADMIN in the initial user namespace, but
	// one that an administrator has loaded can be entered.
	if _, err := os.Stat("/sys/kernel/security/apparmor"); err == nil {
		on, err := os.ReadFile("/sys/module/apparmor/parameters/enabled")
		h.AppArmor = err == nil && bytes.HasPrefix(on, []byte("Y"))
	} else if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission) {
		return h, err
	}
	return h, nil
}

// maxID reads an id map and returns the last id that is mapped together with
// all those below it.
func maxID(path string) (uint32, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	spans := map[uint64]uint64{}
	for sc := bufio.NewScanner(bytes.NewReader(b)); sc.Scan(); {
		var inside, outside, size uint64
		if _, err := fmt.Sscan(sc.Text(), &inside, &outside, &size); err != nil {
			return 0, fmt.Errorf("cannot read %s: %w", path, err)
		}
		spans[inside] = size
	}
	var next uint64
	for size, ok := spans[next]; ok && size > 0; size, ok = spans[next] {
		next += size
	}
	if next == 0 {
		return 0, fmt.Errorf("%s maps no id 0", path)
	}
	return uint32(min(next-1, 1<<31-1)), nil
}

// outside reads an id map and returns what id 0 is outside.
func outside(path string) (uint32, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		var inside, out, size uint32
		if _, err := fmt.Sscan(line, &inside, &out, &size); err != nil {
			return 0, fmt.Errorf("cannot read %s: %w", path, err)
		}
		if inside == 0 {
			return out, nil
		}
	}
	return 0, fmt.Errorf("%s maps no id 0", path)
}

// pingGroups are the groups that may open ICMP sockets: all there are.
func pingGroups(h Host) string { return fmt.Sprintf("0\t%d", h.MaxID) }
