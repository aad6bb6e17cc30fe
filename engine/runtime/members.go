package runtime

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kelp-engine/kelp/engine/fault"
	"github.com/kelp-engine/kelp/userns/procstat"
)

// member is a process of a container, by the host's numbers.
type member struct {
	procstat.Stat
	mounts, pids uint64 // inodes of its namespaces; 0 when they cannot be seen
}

// allProcesses lists what /proc shows. Processes that end meanwhile are left
// out.
func allProcesses() ([]member, error) {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	var all []member
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		s, err := procstat.Read(pid)
		if err != nil {
			continue
		}
		all = append(all, member{Stat: s, mounts: namespace(pid, "mnt"), pids: namespace(pid, "pid")})
	}
	return all, nil
}

// namespace returns the inode that names a process's namespace, or 0. A thread
// that has ended has none, and the process may run on in others.
func namespace(pid int, kind string) uint64 {
	var st unix.Stat_t
	err := unix.Stat(fmt.Sprintf("/proc/%d/ns/%s", pid, kind), &st)
	if !errors.Is(err, fs.ErrNotExist) {
		return st.Ino
	}
	others, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/ns/%s", pid, kind)) // the pattern is good
	for _, path := range others {
		if unix.Stat(path, &st) == nil {
			break
		}
	}
	return st.Ino
}

// members lists the container's processes that have not ended: those in its
// namespaces, and all that descend from them in namespaces further down.
//
// A process can leave the container's mount namespace and one of its own pid
// namespace cannot, so that both are looked at.
func (c *Container) members() ([]member, error) {
	all, err := allProcesses()
	if err != nil {
		return nil, fault.Internal("cannot list processes: %w", err)
	}
	parents := map[int]int{}
	in := map[int]bool{}
	for _, m := range all {
		parents[m.PID] = m.PPID
		if m.mounts == c.mounts && m.mounts != 0 || c.ownPIDs && m.pids == c.pids && m.pids != 0 {
			in[m.PID] = true
		}
	}
	var own []member
	for _, m := range all {
		if !m.Ended() && descends(m.PID, parents, in) {
			own = append(own, m)
		}
	}
	return own, nil
}

// descends says whether a process is one of in, or descends from one. Parents
// were listed while numbers changed hands: they may run in a circle.
func descends(pid int, parents map[int]int, in map[int]bool) bool {
	for range len(parents) + 1 {
		switch {
		case in[pid]:
			return true
		case pid <= 1:
			return false
		}
		pid = parents[pid]
	}
	return false
}

// PIDs lists the container's processes by the host's numbers.
func (c *Container) PIDs() ([]int, error) {
	if c.cgroup {
		pids, err := c.c.Processes()
		slices.Sort(pids)
		return pids, err
	}
	members, err := c.members()
	if err != nil {
		return nil, err
	}
	pids := make([]int, len(members))
	for i, m := range members {
		pids[i] = m.PID
	}
	slices.Sort(pids)
	return pids, nil
}

// signal sends a signal to exactly that process; one that has ended is no
// error.
func (m *member) signal(sig unix.Signal) error {
	fd, err := unix.PidfdOpen(m.PID, 0)
	if err != nil {
		if errors.Is(err, unix.ENOSYS) {
			return ignoreGone(unix.Kill(m.PID, sig))
		}
		return ignoreGone(err)
	}
	defer unix.Close(fd)
	if now, err := procstat.Read(m.PID); err != nil || now.StartTime != m.StartTime {
		return nil // the number is another process's by now
	}
	return ignoreGone(unix.PidfdSendSignal(fd, sig, nil, 0))
}

func ignoreGone(err error) error {
	if errors.Is(err, unix.ESRCH) || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// rounds bounds how often processes are listed until no new ones are found: a
// container that forks faster than it can be stopped is stopped in part.
const rounds = 1000

// SignalAll sends a signal to every process of the container.
func (c *Container) SignalAll(sig unix.Signal) error {
	if sig == unix.SIGKILL {
		return c.KillAll()
	}
	sent := map[uint64]bool{} // by start time and pid
	return c.untilStable(func(m *member) (bool, error) {
		key := m.StartTime<<22 | uint64(m.PID)
		if sent[key] {
			return false, nil
		}
		sent[key] = true
		return true, m.signal(sig)
	})
}

// KillAll kills every process of the container.
func (c *Container) KillAll() error {
	if c.ownPIDs { // the kernel kills the rest of the pid namespace
		return c.init.Signal(unix.SIGKILL)
	}
	return c.untilStable(func(m *member) (bool, error) { return true, m.signal(unix.SIGKILL) })
}

// untilStable calls act for each process, and again until a whole round did
// nothing.
func (c *Container) untilStable(act func(*member) (did bool, err error)) error {
	for round := range rounds {
		if round > 0 {
			time.Sleep(time.Millisecond)
		}
		members, err := c.members()
		if err != nil {
			return err
		}
		any := false
		var errs []error
		for i := range members {
			did, err := act(&members[i])
			any = any || did
			if err != nil {
				errs = append(errs, err)
			}
		}
		if len(errs) > 0 {
			return errors.Join(errs...)
		}
		if !any {
			return nil
		}
	}
	return fault.Unavailable("the container starts processes faster than they can be signalled")
}
