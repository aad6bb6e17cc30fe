package server

import (
	"context"
	"sync"

	"github.com/kelp-engine/kelp/engine/keeper"
)

// watcher is a client that is told of every task that changes. What it has
// not read yet is kept: losing an exit would leave the engine wrong for good,
// and there is one for each process that ends.
type watcher struct {
	mu     sync.Mutex
	queue  []keeper.Task
	wakeup chan struct{} // holds one when the queue is not empty
}

func (w *watcher) add(tasks ...keeper.Task) {
	w.mu.Lock()
	w.queue = append(w.queue, tasks...)
	w.mu.Unlock()
	select {
	case w.wakeup <- struct{}{}:
	default:
	}
}

func (w *watcher) take() []keeper.Task {
	w.mu.Lock()
	defer w.mu.Unlock()
	q := w.queue
	w.queue = nil
	return q
}

// watch serves the operation of that name, until the client goes.
func (r *registry) watch(ctx context.Context, call *call) (any, error) {
	w := &watcher{wakeup: make(chan struct{}, 1)}
	r.mu.Lock()
	w.add(r.all()...)
	r.watchers[w] = struct{}{}
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.watchers, w)
	}()
	for {
		for _, task := range w.take() {
			if err := call.send(task); err != nil {
				return nil, err
			}
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-w.wakeup:
		}
	}
}
