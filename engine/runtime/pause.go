package runtime

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/kelp-engine/kelp/userns/procstat"
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
		if _, ours := stopped[m.PID]; ours {
			// In an uninterruptible sleep it stops when it wakes up.
			return m.State != 'T' && m.State != 't' && m.State != 'D', nil
		}
		if m.State == 'T' {
			return false, nil
		}
		stopped[m.PID] = m.StartTime
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
		m := member{Stat: procstat.Stat{PID: pid, StartTime: started}}
		if err := m.signal(unix.SIGCONT); err != nil {
			errs = append(errs, err)
		}
	}
	c.stopped = nil
	return errors.Join(errs...)
}
