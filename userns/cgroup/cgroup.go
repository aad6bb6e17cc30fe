// Package cgroup finds out how containers can be put into cgroups here: by
// the user's systemd, by directories in a cgroup that was delegated to the
// user, or not at all.
//
// It moves nothing: cgroups are made by libcontainer, and kelp's own processes
// are moved by RootlessKit.
package cgroup

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Driver is who makes cgroups, by the name that docker info gives it.
type Driver string

// Drivers.
const (
	None    Driver = "none"
	FS      Driver = "cgroupfs"
	Systemd Driver = "systemd"
)

// Evacuation is the name of the cgroup, below the one that was delegated, for
// kelp's own processes: a cgroup with processes of its own can have no limits
// on the cgroups below it.
const Evacuation = "kelp-engine"

// service is the systemd unit that 'kelp install' makes.
const service = "kelp.service"

// mountPoint is where libcontainer expects the unified hierarchy.
const mountPoint = "/sys/fs/cgroup"

// Info is what Probe found out.
type Info struct {
	Driver Driver
	// Version of the host's cgroups: 2 where the unified hierarchy has all
	// controllers, else 1.
	Version int
	// Mount is where the unified hierarchy is; "" if it is nowhere.
	Mount string
	// Base is the cgroup that containers' cgroups are made in, as in
	// /proc/self/cgroup. Empty with None.
	Base string
	// Controllers are those that can limit containers, by their v2 names.
	// With none, containers still can be frozen, counted and killed.
	Controllers []string
	// Evacuate says that kelp's own processes have to leave Base first.
	Evacuate bool
	// Reason says why cgroups, or controllers, cannot be had, and Hint what
	// can be done; empty when all is well.
	Reason, Hint string
}

// Has says whether containers can be limited by the controller.
func (i Info) Has(controller string) bool { return slices.Contains(i.Controllers, controller) }

// Container returns the cgroup of a container as the keeper's StartRequest
// wants it; "" with None. parent is the user's choice, "" for Base.
func (i Info) Container(id, parent string) (cgroup string, systemd bool) {
	switch i.Driver {
	case FS:
		return path.Join(i.Base, path.Join("/", parent), id), false
	case Systemd:
		if parent == "" {
			parent = "user.slice"
		}
		return parent + ":kelp:" + id, true
	}
	return "", false
}

// Of returns the same for the containers of one data root: a user may run
// several kelps in one cgroup, and each takes all that it finds in its own
// for what an earlier keeper of it left.
func (i Info) Of(dataRoot string) Info {
	if i.Driver == FS {
		sum := sha256.Sum256([]byte(dataRoot))
		i.Base = path.Join(i.Base, fmt.Sprintf("kelp-%x", sum[:8]))
	}
	return i
}

// Dir returns the directory of a cgroup as in /proc/PID/cgroup.
func (i Info) Dir(cgroup string) string { return filepath.Join(i.Mount, cgroup) }

// Ready makes the kernel ready to move a process into another cgroup: the
// first move after a while waits for an RCU grace period, some 8 ms, and those
// right after it do not. It moves the caller to where it is, and returns
// after that wait. Where it cannot, the move to come takes its time.
func (i Info) Ready() {
	if i.Driver == None {
		return
	}
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return
	}
	for line := range strings.Lines(string(own)) {
		if group, unified := strings.CutPrefix(strings.TrimSpace(line), "0::"); unified {
			if f, err := os.OpenFile(filepath.Join(i.Dir(group), "cgroup.procs"), os.O_WRONLY, 0); err == nil {
				_, _ = f.WriteString("0") // is the caller
				f.Close()
			}
		}
	}
}

// Probe looks at the calling process's cgroup. It gives the same answer
// outside of kelp's user namespace and, after evacuation, inside.
func Probe() Info { return probe(host{root: "/", isCgroup2: isCgroup2}) }

func isCgroup2(dir string) bool {
	var st unix.Statfs_t
	return unix.Statfs(dir, &st) == nil && st.Type == unix.CGROUP2_SUPER_MAGIC
}

// host is where probe looks, so that tests can show it others.
type host struct {
	root      string
	isCgroup2 func(dir string) bool
}

func (h host) path(elem ...string) string { return filepath.Join(h.root, filepath.Join(elem...)) }

func (h host) read(elem ...string) string {
	b, err := os.ReadFile(h.path(elem...))
	if err != nil {
		return ""
	}
	return string(b)
}

func (h host) exists(elem ...string) bool {
	_, err := os.Stat(h.path(elem...))
	return err == nil
}

func probe(h host) Info {
	info := Info{Driver: None, Version: 1}
	switch {
	case h.isCgroup2(h.path(mountPoint)):
		info.Mount, info.Version = mountPoint, 2
	case h.isCgroup2(h.path(mountPoint, "unified")):
		info.Mount = path.Join(mountPoint, "unified")
	default:
		info.Reason = "the host has no unified cgroup hierarchy"
		info.Hint = "ask the administrator to boot with systemd.unified_cgroup_hierarchy=1"
		return info
	}
	// A service's cgroup is kelp's alone. Any other that is delegated may be a
	// terminal's, say: systemd makes better ones, if it can be asked.
	own, evacuated := h.delegated(info.Mount)
	manager := h.userManager()
	switch {
	case own != "" && (path.Base(own) == service || manager == "" || info.Version == 1):
		info.Driver, info.Base, info.Evacuate = FS, own, !evacuated
	case manager != "" && info.Version == 2:
		info.Driver, info.Base = Systemd, manager
	default:
		info.Reason = "no cgroup is delegated to you"
		info.Hint = "run kelp as a service of your systemd session ('kelp install'), or ask the administrator for a delegated cgroup"
		return info
	}
	info.Controllers = strings.Fields(h.read(info.Mount, info.Base, "cgroup.controllers"))
	if len(info.Controllers) == 0 {
		info.Reason = "no cgroup v2 controller is delegated to you"
		info.Hint = "ask the administrator to delegate controllers, and where they are on cgroup v1 to boot with systemd.unified_cgroup_hierarchy=1"
	}
	return info
}

// delegated returns the cgroup that kelp was started in if it is ours to make
// others in, and whether kelp's processes have left it already.
func (h host) delegated(mount string) (base string, evacuated bool) {
	own := ""
	for line := range strings.Lines(h.read("proc/self/cgroup")) {
		if p, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok {
			own = p
		}
	}
	if !path.IsAbs(own) || strings.Contains(own, "/../") {
		return "", false // out of our cgroup namespace
	}
	if path.Base(own) == Evacuation {
		own, evacuated = path.Dir(own), true
	}
	for _, file := range []string{"", "cgroup.procs", "cgroup.subtree_control"} {
		if unix.Access(h.path(mount, own, file), unix.W_OK) != nil {
			return "", false
		}
	}
	return own, evacuated
}

// userManager returns the cgroup of the user's systemd if it can be asked to
// make cgroups; libcontainer needs busctl to do so from a user namespace.
func (h host) userManager() string {
	if !h.exists("run/systemd/system") || !h.hasBus() {
		return ""
	}
	if _, err := exec.LookPath("busctl"); err != nil {
		return ""
	}
	uid, err := h.uid()
	if err != nil {
		return ""
	}
	base := "/user.slice/user-" + uid + ".slice/user@" + uid + ".service"
	if !h.exists(mountPoint, base) {
		return ""
	}
	return base
}

func (h host) hasBus() bool {
	if os.Getenv("DBUS_SESSION_BUS_ADDRESS") != "" {
		return true
	}
	dir := os.Getenv("XDG_RUNTIME_DIR")
	return dir != "" && h.exists(dir, "bus")
}

// uid returns the user's id outside of any user namespace.
func (h host) uid() (string, error) {
	for line := range strings.Lines(h.read("proc/self/uid_map")) {
		fields := strings.Fields(line)
		if len(fields) != 3 {
			continue
		}
		inside, err1 := strconv.Atoi(fields[0])
		outside, err2 := strconv.Atoi(fields[1])
		count, err3 := strconv.ParseInt(fields[2], 10, 64)
		if err := errors.Join(err1, err2, err3); err != nil {
			return "", err
		}
		if me := os.Getuid(); me >= inside && int64(me-inside) < count {
			return strconv.Itoa(outside + me - inside), nil
		}
	}
	return "", errors.New("no user id map")
}
