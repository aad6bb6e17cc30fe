package forward

import "sync"

// connections are those that carry data or are about to.
type connections struct {
	mu     sync.Mutex
	closed bool
	open   map[aborter]struct{}
	tasks  sync.WaitGroup
}

// aborter is a connection that can be broken by any goroutine.
type aborter interface{ abort() }

// add enters a connection; ok is false when there are too many or all are
// being closed.
func (c *connections) add(a aborter, most int) (ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || len(c.open) >= most {
		return false
	}
	if c.open == nil {
		c.open = map[aborter]struct{}{}
	}
	c.open[a] = struct{}{}
	c.tasks.Add(1)
	return true
}

// remove forgets a connection that has ended.
func (c *connections) remove(a aborter) {
	c.mu.Lock()
	delete(c.open, a)
	c.mu.Unlock()
	c.tasks.Done()
}

func (c *connections) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.open)
}

// close breaks all connections and returns when they have ended.
func (c *connections) close() {
	c.mu.Lock()
	c.closed = true
	for a := range c.open {
		a.abort()
	}
	c.mu.Unlock()
	c.tasks.Wait()
}
