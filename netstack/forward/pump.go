package forward

import (
	"fmt"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kelp-engine/kelp/netstack/link"
	"golang.org/x/sys/unix"
)

// hastyWait is how long a pump looks for events before it sleeps.
const hastyWait = 100 * time.Microsecond

// maxPumps bounds the threads that carry connections.
const maxPumps = 8

// pump is a thread that accepts, makes and carries TCP connections between
// kernel sockets and waits for all of them at once. With a goroutine for each
// direction every piece of data would wake threads one after the other.
type pump struct {
	epoll, wake int
	visitor     *link.Visitor
	load        atomic.Int32 // connections

	mu     sync.Mutex
	posted []func()

	// Only the pump's thread uses what follows.
	slots []slot
	free  []int32
	pipes []*pipe
	// little is for what is copied rather than spliced.
	little [shortRead]byte
	again  []*flow // have more to move than one turn allows
	hasty  bool    // the last wait was short
}

// source is a socket's owner. ready hears of the socket's events, each once.
type source interface{ ready(events uint32) }

// slot is what an event names. An event may come after its source has gone
// and the slot was given away, hence the use.
type slot struct {
	source source
	use    int32
}

const (
	wakeSlot    = 0
	socketEvent = unix.EPOLLIN | unix.EPOLLPRI | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET
)

// pumps are started on first use and stay.
var pumps = sync.OnceValues(func() ([]*pump, error) {
	n := min(runtime.NumCPU(), maxPumps)
	var all []*pump
	for range n {
		p, err := startPump()
		if err != nil {
			return nil, fmt.Errorf("cannot start to carry connections: %w", err)
		}
		all = append(all, p)
	}
	// Busy pumps must not keep Go from running goroutines.
	runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + n)
	return all, nil
})

func startPump() (*pump, error) {
	p := &pump{slots: make([]slot, 1)}
	var err error
	if p.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	if p.wake, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return nil, os.NewSyscallError("eventfd", err)
	}
	e := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLET, Fd: wakeSlot}
	if err := unix.EpollCtl(p.epoll, unix.EPOLL_CTL_ADD, p.wake, &e); err != nil {
		return nil, os.NewSyscallError("epoll_ctl", err)
	}
	return p, link.StartVisitor(func(v *link.Visitor) {
		p.visitor = v
		p.run()
	})
}

// quietest returns the pump with the fewest connections, favoured if it is one.
func quietest(all []*pump, favoured *pump) *pump {
	best := favoured
	for _, p := range all {
		if best == nil || p.load.Load() < best.load.Load() {
			best = p
		}
	}
	return best
}

// spread runs f on p's thread, on which it is called, or on that of a pump that
// has less than two thirds of p's connections: to wake another takes longer than
// much that is done for a short connection.
func (p *pump) spread(f func(*pump)) {
	all, _ := pumps() // they run
	if best := quietest(all, p); 3*best.load.Load() < 2*p.load.Load() {
		best.post(func() { f(best) })
	} else {
		f(p)
	}
}

// post has the pump's thread run f soon.
func (p *pump) post(f func()) {
	p.mu.Lock()
	p.posted = append(p.posted, f)
	first := len(p.posted) == 1
	p.mu.Unlock()
	if first {
		_, _ = unix.Write(p.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0})
	}
}

func (p *pump) run() {
	events := make([]unix.EpollEvent, 256)
	for {
		n, err := p.wait(events)
		if err != nil && err != unix.EINTR {
			panic(os.NewSyscallError("epoll_wait", err)) // its descriptor is ours alone
		}
		if n == 0 && len(p.again) == 0 && p.load.Load() == 0 {
			p.dropSpare()
		}
		for _, e := range events[:max(n, 0)] {
			if s := p.slots[e.Fd]; s.source != nil && s.use == e.Pad {
				s.source.ready(e.Events)
			}
		}
		p.runPosted()
		p.runAgain()
		p.visitor.Leave()
	}
}

// wait returns the next events. To be woken takes a processor that sleeps tens of
// microseconds, so where the last events came sooner than that it looks for
// the next ones itself for a while, and lets others run.
func (p *pump) wait(events []unix.EpollEvent) (int, error) {
	timeout := p.timeout()
	if timeout == 0 {
		return unix.EpollWait(p.epoll, events, 0)
	}
	begun := time.Now()
	for p.hasty && time.Since(begun) < hastyWait {
		if n, err := unix.EpollWait(p.epoll, events, 0); n != 0 {
			return n, err
		}
		_, _, _ = unix.RawSyscall(unix.SYS_SCHED_YIELD, 0, 0, 0)
	}
	n, err := unix.EpollWait(p.epoll, events, timeout)
	p.hasty = time.Since(begun) < hastyWait
	return n, err
}

// timeout is that of the next wait: none when there is something else to do if
// no events are there.
func (p *pump) timeout() int {
	if len(p.again) > 0 || p.load.Load() == 0 && len(p.pipes) > 0 {
		return 0
	}
	return -1
}

func (p *pump) runPosted() {
	p.mu.Lock()
	posted := p.posted
	p.posted = nil
	p.mu.Unlock()
	for _, f := range posted {
		f()
	}
}

// runAgain gives each of the flows that are not through another turn.
func (p *pump) runAgain() {
	flows := p.again
	p.again = nil
	for _, f := range flows {
		f.waiting = false
		f.turn()
	}
}

// add hears of a socket's events from now on, and first of those that it has.
func (p *pump) add(fd int, events uint32, s source) (int32, error) {
	var i int32
	if n := len(p.free); n > 0 {
		i, p.free = p.free[n-1], p.free[:n-1]
	} else {
		i = int32(len(p.slots))
		p.slots = append(p.slots, slot{})
	}
	p.slots[i].source = s
	e := unix.EpollEvent{Events: events, Fd: i, Pad: p.slots[i].use}
	if err := unix.EpollCtl(p.epoll, unix.EPOLL_CTL_ADD, fd, &e); err != nil {
		p.drop(i)
		return 0, os.NewSyscallError("epoll_ctl", err)
	}
	return i, nil
}

// drop gives up a slot. Its socket is closed by the caller or taken off.
func (p *pump) drop(i int32) {
	p.slots[i].source = nil
	p.slots[i].use++
	p.free = append(p.free, i)
}

// off stops to hear of a socket that stays open.
func (p *pump) off(fd int, i int32) {
	_ = unix.EpollCtl(p.epoll, unix.EPOLL_CTL_DEL, fd, nil)
	p.drop(i)
}
