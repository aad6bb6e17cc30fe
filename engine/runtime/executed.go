package runtime

import (
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kelp-engine/kelp/engine/keeper/pid1"
)

// Bounds of the wait for a first process: its program may lie on a slow file
// system, and one that is called as kelp's init may be another.
const (
	executeTimeout = 10 * time.Second
	commandTimeout = 5 * time.Second
)

// executable is what a process executes, "" when it has ended.
func executable(pid int) string {
	path, err := os.Readlink("/proc/" + strconv.Itoa(pid) + "/exe")
	if err != nil {
		return ""
	}
	return path
}

// awaitProgram returns when a process that executed before executes something
// else, or has ended; with kelp's init, when that has started its command. A
// signal that came earlier would end libcontainer's init with exit code 2, or
// be lost on kelp's, which has no handler yet.
func awaitProgram(pid int, before string) {
	poll(executeTimeout, func() bool { return executable(pid) != before })
	if filepath.Base(executable(pid)) != pid1.Name {
		return
	}
	tasks := "/proc/" + strconv.Itoa(pid) + "/task/"
	poll(commandTimeout, func() bool {
		threads, err := os.ReadDir(tasks)
		for _, t := range threads { // the command is the child of any of them
			if children, err := os.ReadFile(tasks + t.Name() + "/children"); err != nil || len(children) > 0 {
				return true
			}
		}
		return err != nil
	})
}

// poll asks done, less and less often, until it says yes or the time is over.
func poll(timeout time.Duration, done func() bool) {
	end := time.Now().Add(timeout)
	for pause := 50 * time.Microsecond; !done() && time.Now().Before(end); pause = min(2*pause, 10*time.Millisecond) {
		if pause < time.Millisecond {
			wait := unix.NsecToTimespec(int64(pause))
			_ = unix.Nanosleep(&wait, nil) // time.Sleep sleeps a millisecond at least
			continue
		}
		time.Sleep(pause)
	}
}
