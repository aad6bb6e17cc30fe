package logs

import (
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// pollInterval is how often a log is looked at where inotify cannot be had.
const pollInterval = 100 * time.Millisecond

// batch is the time between two looks, at least, at a log that grows all the
// time: many lines come at once then, and after a silence the first at once.
const batch = 2 * time.Millisecond

// changes tells that a log's directory may have changed.
type changes struct {
	C       chan struct{} // holds a token after a change
	stop    chan struct{}
	inotify *os.File // nil when polling
	running sync.WaitGroup
}

// watch watches the directory of a log, which sees writes and rotation. The
// kernel limits how many a user may watch (fs.inotify.max_user_instances);
// beyond it, and where the directory is missing yet, the log is polled.
func watch(path string) *changes {
	c := &changes{C: make(chan struct{}, 1), stop: make(chan struct{})}
	if f, err := newInotify(filepath.Dir(path)); err == nil {
		c.inotify = f
		c.running.Go(c.read)
	} else {
		slog.Debug("cannot watch a log; polling it", "path", path, "error", err)
		c.running.Go(c.poll)
	}
	return c
}

func newInotify(dir string) (*os.File, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, err
	}
	if _, err := unix.InotifyAddWatch(fd, dir, unix.IN_MODIFY|unix.IN_CREATE|unix.IN_MOVED_TO|unix.IN_DELETE); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), "inotify"), nil
}

func (c *changes) read() {
	buf := make([]byte, 16<<10)
	for {
		if _, err := c.inotify.Read(buf); err != nil {
			return // closed
		}
		c.notify()
		time.Sleep(batch)
	}
}

func (c *changes) poll() {
	t := time.NewTicker(pollInterval)
	defer t.Stop()
	for {
		select {
		case <-c.stop:
			return
		case <-t.C:
			c.notify()
		}
	}
}

func (c *changes) notify() {
	select {
	case c.C <- struct{}{}:
	default:
	}
}

// Close stops watching.
func (c *changes) Close() {
	close(c.stop)
	if c.inotify != nil {
		c.inotify.Close()
	}
	c.running.Wait()
}
