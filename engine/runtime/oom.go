package runtime

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"

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
	w, err := watchOOM(state.CgroupPaths[""])
	if err != nil {
		return nil
	}
	return w
}

func watchOOM(cgroup string) (*OOMWatch, error) {
	w := &OOMWatch{
		path:  filepath.Join(cgroup, "memory.events"),
		above: filepath.Join(filepath.Dir(cgroup), "memory.events"),
	}
	if _, err := w.more(); err != nil {
		return nil, err
	}
	w.killed = false // those of before
	var err error
	w.notify, err = watchFile(w.path)
	return w, err
}

// OOMWatch counts the processes killed in one cgroup.
type OOMWatch struct {
	path   string
	above  string   // the same of the parent, which counts what is below it as well
	notify *os.File // inotify

	mu        sync.Mutex
	last      uint64
	lastAbove uint64
	killed    bool
}

// Wait returns true when a process was killed, and false when the cgroup is
// gone or after Close.
func (w *OOMWatch) Wait() bool {
	b := make([]byte, 4<<10)
	for {
		if more, err := w.more(); err != nil || more {
			return more
		}
		if _, err := w.notify.Read(b); err != nil {
			return false
		}
	}
}

// Killed says whether any process was killed. systemd removes a cgroup as
// soon as its last process has ended, maybe before it is read: then the
// parent's count tells.
func (w *OOMWatch) Killed() bool {
	_, err := w.more()
	var above uint64
	if err != nil {
		above, _ = kills(w.above)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.killed || above > w.lastAbove
}

// more says whether a process was killed since the last call.
func (w *OOMWatch) more() (bool, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	above, _ := kills(w.above) // 0 where the parent counts nothing
	n, err := kills(w.path)
	if err != nil {
		return false, err
	}
	more := n > w.last
	w.last, w.lastAbove = n, above
	w.killed = w.killed || more
	return more, nil
}

// Close ends Wait.
func (w *OOMWatch) Close() error { return w.notify.Close() }

// kills reads how many processes were killed from a memory.events file.
func kills(path string) (uint64, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	for line := range bytes.Lines(b) {
		if n, ok := bytes.CutPrefix(bytes.TrimSpace(line), []byte("oom_kill ")); ok {
			return strconv.ParseUint(string(n), 10, 64)
		}
	}
	return 0, fmt.Errorf("%s counts no kills", path)
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
