package container

import (
	"context"
	"sync"
)

// background runs what goes on between requests, and can end it.
type background struct {
	done chan struct{}
	once sync.Once
	work sync.WaitGroup
}

func newBackground() *background { return &background{done: make(chan struct{})} }

// run calls f in a goroutine with a context that ends at close.
func (b *background) run(f func(ctx context.Context)) {
	b.work.Go(func() {
		ctx, cancel := context.WithCancel(context.Background())
		stop := make(chan struct{})
		defer close(stop)
		go func() {
			defer cancel()
			select {
			case <-b.done:
			case <-stop:
			}
		}()
		f(ctx)
	})
}

// closed says whether close was called.
func (b *background) closed() bool {
	select {
	case <-b.done:
		return true
	default:
		return false
	}
}

// close ends everything and waits for it.
func (b *background) close() {
	b.once.Do(func() { close(b.done) })
	b.work.Wait()
}
