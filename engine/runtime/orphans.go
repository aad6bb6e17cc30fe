package runtime

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kelp-engine/kelp/userns/procstat"
)

// orphanAge is how long a child has to be a zombie to be nobody's: whoever
// started one waits for it and is woken up at once.
const orphanAge = 10 * time.Second

// ReapOrphans waits for processes whose parents have died, which the kernel
// makes children of the keeper, until ctx ends. It takes only those that
// nobody else waits for.
//
// Preconditions: the process is a subreaper.
func ReapOrphans(ctx context.Context) {
	tick := time.NewTicker(orphanAge)
	defer tick.Stop()
	seen := map[int]uint64{} // zombies of the last round: start times by pid
	for {
		seen = reapZombies(seen)
		select {
		case <-ctx.Done():
			return
		case <-failedExec:
			reapStages(ctx)
			// What libcontainer opened for an exec that failed early, six sockets
			// and pipes, it leaves to the garbage collector, which may not come
			// for hours.
			runtime.GC()
		case <-tick.C:
		}
	}
}

// failedExec holds a token after an exec has failed.
var failedExec = make(chan struct{}, 1)

// reapStages waits for the stages of libcontainer that a failed exec leaves
// behind when the container dies under it, for a second: a PID namespace, and
// with it the end of the container, waits for each zombie in it. One of these
// names has not become the user's program, so that nobody wants its exit code.
func reapStages(ctx context.Context) {
	for range 20 {
		for _, pid := range children() {
			comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
			if name := string(comm); err != nil || name != "runc:[1:CHILD]\n" && name != "runc:[2:INIT]\n" {
				continue
			}
			if s, err := procstat.Read(pid); err == nil && s.Ended() {
				_, _ = unix.Wait4(pid, nil, unix.WNOHANG, nil)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// reapZombies waits for the zombies that were ones in the last round, and
// returns the others.
func reapZombies(before map[int]uint64) (now map[int]uint64) {
	now = map[int]uint64{}
	for _, pid := range children() {
		s, err := procstat.Read(pid)
		if err != nil || !s.Ended() {
			continue
		}
		if started, ok := before[pid]; ok && started == s.StartTime {
			_, _ = unix.Wait4(pid, nil, unix.WNOHANG, nil)
			continue
		}
		now[pid] = s.StartTime
	}
	return now
}

// children lists the children of all threads of this process.
func children() []int {
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return nil
	}
	var pids []int
	for _, t := range tasks {
		b, err := os.ReadFile(fmt.Sprintf("/proc/self/task/%s/children", t.Name()))
		if err != nil {
			if t.Name() == strconv.Itoa(os.Getpid()) { // a kernel without CONFIG_PROC_CHILDREN
				return childrenOfAll()
			}
			continue // the thread has ended
		}
		for _, f := range strings.Fields(string(b)) {
			if pid, err := strconv.Atoi(f); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// childrenOfAll finds this process's children among all processes.
func childrenOfAll() []int {
	all, err := allProcesses()
	if err != nil {
		return nil
	}
	var pids []int
	for _, m := range all {
		if m.PPID == os.Getpid() {
			pids = append(pids, m.PID)
		}
	}
	return pids
}
