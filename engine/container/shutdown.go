package container

import (
	"context"
	"errors"
	"sync"
)

// StopAll stops every running container, all at once, each with its own
// signal and timeout, and starts none again. They are not stopped by the
// user: the next boot starts those that their restart policies want.
func (m *Manager) StopAll(ctx context.Context) error {
	m.stopOnce.Do(func() { close(m.stopping) })
	var (
		mu   sync.Mutex
		errs []error
		wg   sync.WaitGroup
	)
	for _, c := range m.All() {
		wg.Go(func() {
			if err := m.shutDown(ctx, c); err != nil {
				mu.Lock()
				defer mu.Unlock()
				errs = append(errs, err)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// shutDown ends one container for the shutdown of kelp.
func (m *Manager) shutDown(ctx context.Context, c *Container) error {
	release, err := c.beginOp(ctx)
	if err != nil {
		return nil // removed
	}
	defer release()
	m.settle(ctx, c)
	r := c.Snapshot()
	if !r.State.Running() {
		return nil
	}
	signal, timeout, err := StopOptions{}.of(r)
	if err != nil {
		return err
	}
	logFailure(r, "save the stop", m.happened(c, Stopping, process, func(r *Record) { r.StartAgain = false }))
	c.stopHealth()
	if err := m.end(ctx, c, r.State == Paused, signal, timeout); err != nil {
		return named(r, "stop", err)
	}
	return nil
}
