package attach

import (
	"context"
	"sync"
)

// pending counts the attachments of each container that were promised to
// their clients and are not made yet.
type pending struct {
	mu sync.Mutex
	of map[string]*promised
}

type promised struct {
	n    int
	made chan struct{} // closed when n is 0
}

// Begin says that the client is about to be told that it is attached, upon
// which it may start the container: Await waits for the function returned.
func (a *Attachment) Begin() (end func()) {
	p := &a.m.pending
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.of == nil {
		p.of = map[string]*promised{}
	}
	c := p.of[a.c.ID]
	if c == nil {
		c = &promised{made: make(chan struct{})}
		p.of[a.c.ID] = c
	}
	c.n++
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if c.n--; c.n == 0 {
			close(c.made)
			delete(p.of, a.c.ID)
		}
	}
}

// Await returns when every client that was told it is attached to a container
// is: the first output of a container that is started then reaches it.
func (m *Manager) Await(ctx context.Context, ref string) error {
	c, err := m.containers.LookupAttach(ref)
	if err != nil {
		return err
	}
	m.pending.mu.Lock()
	p := m.pending.of[c.ID]
	m.pending.mu.Unlock()
	if p == nil {
		return nil
	}
	select {
	case <-p.made:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
