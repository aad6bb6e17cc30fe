package forward

import (
	"log/slog"
	"net/netip"
	"sync"
)

// connections are those that carry data or are about to.
type connections struct {
	mu     sync.Mutex
	closed bool
	open   map[aborter]netip.Addr // whose they are
	share  *quota[netip.Addr]
	log    *slog.Logger
	tasks  sync.WaitGroup
}

func newConnections(most int, log *slog.Logger) connections {
	return connections{open: map[aborter]netip.Addr{}, share: newQuota[netip.Addr](most), log: log}
}

// aborter is a connection that can be broken by any goroutine.
type aborter interface{ abort() }

// add enters a connection of somebody; ok is false when he has too many or all
// are being closed.
func (c *connections) add(a aborter, who netip.Addr) (ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || !c.share.take(who) {
		return false
	}
	if !descriptors.take(who, tcpCost, c.log) {
		c.share.give(who)
		return false
	}
	c.open[a] = who
	c.tasks.Add(1)
	return true
}

// remove forgets a connection that has ended.
func (c *connections) remove(a aborter) {
	c.mu.Lock()
	c.share.give(c.open[a])
	descriptors.give(c.open[a], tcpCost)
	delete(c.open, a)
	c.mu.Unlock()
	c.tasks.Done()
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
