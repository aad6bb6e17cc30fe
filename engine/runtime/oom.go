package runtime

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// OOMKills watches for processes of the container that the kernel kills
// because its memory limit is reached. It is nil when nobody counts them: the
// container has no cgroup, or that has no memory controller.
func (c *Container) OOMKills() *OOMWatch {
	if !c.cgroup {
		return nil
	}
	state, err := c.c.State()
	if err != nil {
		return nil
	}
	path := filepath.Join(state.CgroupPaths[""], "memory.events")
	w := &OOMWatch{path: path}
	if w.last, err = w.count(); err != nil {
		return nil
	}
	if w.notify, err = watchFile(path); err != nil {
		return nil
	}
	return w
}

// OOMWatch counts the processes killed in one cgroup.
type OOMWatch struct {
	path   string
	last   uint64
	notify *os.File // inotify
}

// Wait returns true when a process was killed, and false when the cgroup is
// gone or after Close.
func (w *OOMWatch) Wait() bool {
	b := make([]byte, 4<<10)
	for {
		n, err := w.count()
		if err != nil {
			return false
		}
		if n > w.last {
			w.last = n
			return true
		}
		if _, err := w.notify.Read(b); err != nil {
			return false
		}
	}
}

// Killed says whether a process was killed since Wait returned last.
func (w *OOMWatch) Killed() bool {
	n, err := w.count()
	return err == nil && n > w.last
}

// Close ends Wait.
func (w *OOMWatch) Close() error { return w.notify.Close() }

// count reads how many processes were killed.
func (w *OOMWatch) count() (uint64, error) {
	b, err := os.ReadFile(w.path)
	if err != nil {
		return 0, err
	}
	for line := range bytes.Lines(b) {
		if n, ok := bytes.CutPrefix(bytes.TrimSpace(line), []byte("oom_kill ")); ok {
			return strconv.ParseUint(string(n), 10, 64)
		}
	}
	return 0, fmt.Errorf("%s counts no kills", w.path)
}

// watchFile returns an inotify instance that can be read when the file changes.
func watchFile(path string) (*os.File, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "inotify")
	if _, err := unix.InotifyAddWatch(fd, path, unix.IN_MODIFY); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
