package link

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"
)

// maxThreads bounds the threads that visit namespaces at the same time.
const maxThreads = 8

// visitors are threads that only ever visit namespaces. A process in a user
// namespace may not return to the host's network namespace, so a thread that
// has left it must never run anything else.
var visitors struct {
	jobs chan visit

	mu      sync.Mutex
	started int
	park    *os.File // where idle threads wait, so that they keep no network alive
}

type visit struct {
	fn   func() error
	done chan<- error
}

func init() { visitors.jobs = make(chan visit) }

// onThread runs fn, which changes its thread's network namespace, on a thread
// kept for that.
func onThread(fn func() error) error {
	done := make(chan error, 1)
	job := visit{fn, done}
	select {
	case visitors.jobs <- job:
		return <-done
	default:
	}
	if err := startVisitor(); err != nil {
		return err
	}
	visitors.jobs <- job
	return <-done
}

// startVisitor adds a thread unless there are enough.
func startVisitor() error {
	visitors.mu.Lock()
	defer visitors.mu.Unlock()
	if visitors.started >= maxThreads {
		return nil
	}
	ready := make(chan error, 1)
	go runVisitor(ready)
	if err := <-ready; err != nil {
		return fmt.Errorf("cannot prepare a thread for network namespaces: %w", err)
	}
	visitors.started++
	return nil
}

// leaveHost moves the thread of the calling goroutine to where idle visitors
// wait. The goroutine must never unlock its thread: should it ever return, the
// thread ends with it.
//
// Preconditions: visitors.mu is held, by whoever waits for the goroutine.
func leaveHost() (park *os.File, err error) {
	runtime.LockOSThread()
	if visitors.park != nil {
		return visitors.park, unix.Setns(int(visitors.park.Fd()), unix.CLONE_NEWNET)
	}
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return nil, err
	}
	visitors.park, err = os.Open("/proc/thread-self/ns/net")
	return visitors.park, err
}

// runVisitor serves jobs until the process ends.
func runVisitor(ready chan<- error) {
	park, err := leaveHost()
	ready <- err
	if err != nil {
		return
	}
	for job := range visitors.jobs {
		err := job.fn()
		if back := unix.Setns(int(park.Fd()), unix.CLONE_NEWNET); back != nil {
			err = errors.Join(err, fmt.Errorf("cannot leave the network namespace: %w", back))
		}
		job.done <- err
	}
}
