package runtime

import (
	"sync"
	"sync/atomic"
	"time"
)

// usage is what processes used.
type usage struct {
	user, kernel          uint64 // nanoseconds
	readBytes, writeBytes uint64
	readOps, writeOps     uint64
}

// counters are the highest usage seen: what processes used that ended without
// anybody counting it must not make a container's counters fall.
type counters struct {
	mu   sync.Mutex
	seen usage
}

// raise returns the counters after u has been seen.
func (c *counters) raise(u usage) usage {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := &c.seen
	s.user, s.kernel = max(s.user, u.user), max(s.kernel, u.kernel)
	s.readBytes, s.writeBytes = max(s.readBytes, u.readBytes), max(s.writeBytes, u.writeBytes)
	s.readOps, s.writeOps = max(s.readOps, u.readOps), max(s.writeOps, u.writeOps)
	return *s
}

// times are the processor times, in nanoseconds, of processes that ended and
// whose parent is the keeper, not a process of the container.
type times struct{ user, kernel atomic.Uint64 }

func (t *times) add(user, kernel time.Duration) {
	t.user.Add(uint64(user))
	t.kernel.Add(uint64(kernel))
}
