package runtime

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Pause stops every process of the container: with its cgroup's freezer, else
// by SIGSTOP to each. Processes that had been stopped already stay so on
// Resume.
func (c *Container) Pause() error {
	c.pausing.Lock()
	defer c.pausing.Unlock()
	if c.cgroup {
		if err := c.c.Pause(); err != nil {
			return fmt.Errorf("cannot freeze the container: %w", err)
		}
		return nil
	}
	stopped := map[int]uint64{} // start times, by pid
	err := c.untilStable(func(m *member) (bool, error) {
		if _, ours := stopped[m.pid]; ours {
			// In an uninterruptible sleep it stops when it wakes up.
			return m.state != 'T' && m.state != 't' && m.state != 'D', nil
		}
		if m.state == 'T' {
			return false, nil
		}
		stopped[m.pid] = m.startTime
		return true, m.signal(unix.SIGSTOP)
	})
	c.stopped = stopped
	if err != nil {
		return errors.Join(fmt.Errorf("cannot stop the container's processes: %w", err), c.resume())
	}
	return nil
}

// Resume undoes Pause.
func (c *Container) Resume() error {
	c.pausing.Lock()
	defer c.pausing.Unlock()
	return c.resume()
}

func (c *Container) resume() error {
	if c.cgroup {
		if err := c.c.Resume(); err != nil {
			return fmt.Errorf("cannot thaw the container: %w", err)
		}
		return nil
	}
	var errs []error
	for pid, started := range c.stopped {
		m := member{stat: stat{pid: pid, startTime: started}}
		if err := m.signal(unix.SIGCONT); err != nil {
			errs = append(errs, err)
		}
	}
	c.stopped = nil
	return errors.Join(errs...)
}
