package container

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kelp-engine/kelp/engine/fault"
	"github.com/kelp-engine/kelp/engine/keeper"
)

// Container is one container in memory. Its Record is replaced as a whole, so
// those who read it wait for nobody.
type Container struct {
	id  string
	rec atomic.Pointer[Record]

	// op is the operation token: whoever took it out may change the state.
	op chan struct{}
	// saving puts changes of the record in one order. It is held while one
	// is written; readers never take it.
	saving sync.Mutex

	mu      sync.Mutex
	changed chan struct{} // guarded by mu; closed at the next change
	exit    *keeper.Task  // guarded by mu; the last exit that the keeper told of
	gone    bool          // guarded by mu; removed
	restart *time.Timer   // guarded by mu; runs while Restarting
	health  *monitor      // guarded by mu; runs while the container does
}

func newContainer(r *Record) *Container {
	c := &Container{id: r.ID, op: make(chan struct{}, 1), changed: make(chan struct{})}
	c.rec.Store(r)
	return c
}

// ID of the container.
func (c *Container) ID() string { return c.id }

// Snapshot returns what is known of the container now. It must not be changed.
func (c *Container) Snapshot() *Record { return c.rec.Load() }

// beginOp takes the operation token, waiting for the operation under way. A
// container that was removed meanwhile is an error.
func (c *Container) beginOp(ctx context.Context) (release func(), err error) {
	select {
	case c.op <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	c.mu.Lock()
	gone := c.gone
	c.mu.Unlock()
	if gone {
		<-c.op
		return nil, noSuch(c.id)
	}
	return func() { <-c.op }, nil
}

// broadcast wakes everybody that waits for a change.
func (c *Container) broadcast() {
	c.mu.Lock()
	defer c.mu.Unlock()
	close(c.changed)
	c.changed = make(chan struct{})
}

// await returns when done holds, which it asks after every change.
func (c *Container) await(ctx context.Context, done func(r *Record, exit *keeper.Task, gone bool) bool) error {
	for {
		c.mu.Lock()
		changed, exit, gone := c.changed, c.exit, c.gone
		c.mu.Unlock()
		if done(c.rec.Load(), exit, gone) {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// noteExit remembers that a process of the container ended; settle, or the
// operation that waits for it, takes it from there.
func (c *Container) noteExit(t keeper.Task) {
	c.mu.Lock()
	c.exit = &t
	c.mu.Unlock()
	c.broadcast()
}

// exitOf returns how the process ended, or nil when it has not.
func (c *Container) exitOf(p keeper.Started) *keeper.Task {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.exit == nil || !sameProcess(c.exit.Started, p) {
		return nil
	}
	return c.exit
}

func sameProcess(a, b keeper.Started) bool {
	return a.PID == b.PID && a.StartTime == b.StartTime
}

// noSuch is Docker's error for a container that is not there.
func noSuch(ref string) error { return fault.NotFound("No such container: %s", ref) }
