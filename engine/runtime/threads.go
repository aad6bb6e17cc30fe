package runtime

import (
	stdruntime "runtime"
	"sync"
)

// The main goroutine keeps the main thread to itself. Other goroutines lock
// their threads, enter namespaces with them and end (libcontainer does, to
// open mounts of containers); Go ends such a thread, but not the main one,
// which would stay where it went: /proc/PID of the whole process would show a
// container's namespaces, and the container's mounts could never go.
func init() { stdruntime.LockOSThread() }

// threads runs functions on operating system threads that live as long as the
// program. Processes are started from them, because the kernel sends a child
// its parent-death signal when the thread that started it ends, and Go ends
// threads that a goroutine had locked.
type threads struct {
	mu   sync.Mutex
	idle []chan func()
}

// do runs f on one of the threads and waits for it.
func (t *threads) do(f func()) {
	thread := t.take()
	done := make(chan struct{})
	thread <- func() { defer close(done); f() }
	<-done
	t.mu.Lock()
	defer t.mu.Unlock()
	t.idle = append(t.idle, thread)
}

func (t *threads) take() chan func() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n := len(t.idle); n > 0 {
		thread := t.idle[n-1]
		t.idle = t.idle[:n-1]
		return thread
	}
	thread := make(chan func())
	go func() {
		stdruntime.LockOSThread() // never unlocked, never returned from
		for f := range thread {
			f()
		}
	}()
	return thread
}
