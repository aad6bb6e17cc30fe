package forward

import (
	"os"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// turnSize is how much one direction of a flow may move before others
	// have their turn.
	turnSize = 4 << 20
	// shortRead is when a socket that gave less than was asked for has no
	// more; above, the pipe may just have been full.
	shortRead = 4 << 10
)

// The two ends of a flow.
const (
	inner = 0 // the container's
	outer = 1 // the host's
)

// flow joins two TCP connections, one with a container and one with a host, so
// that each end sees what the other does: data, half-close and reset. Only its
// pump's thread uses it, but for abort.
type flow struct {
	pump *pump
	ends [2]flowEnd
	// connecting says that the inner end's handshake is under way.
	connecting bool
	expiry     *time.Timer
	closed     bool
	waiting    bool // in pump.again
	ended      func()
}

// flowEnd is one of a flow's sockets with the direction that it is the source of.
type flowEnd struct {
	flow *flow
	fd   int
	slot int32

	readable, writable bool
	// last says that the far end will send no more than is there.
	last bool
	// through says that all of it has been given on.
	through bool
	pipe    *pipe
	held    int // bytes in the pipe
}

// startFlow carries data between two sockets, which it owns from now on. ended
// is called when both are closed. A flow whose inner end is connecting has
// until patience to do so.
func (p *pump) startFlow(innerFD, outerFD int, patience time.Duration, ended func(*flow)) *flow {
	f := &flow{pump: p, connecting: patience > 0}
	f.ended = func() { ended(f) }
	p.load.Add(1)
	for i, fd := range [2]int{innerFD, outerFD} {
		f.ends[i] = flowEnd{flow: f, fd: fd, slot: -1}
	}
	if f.connecting {
		f.expiry = time.AfterFunc(patience, f.abort)
	}
	return f
}

// begin starts to hear of the sockets' events.
func (f *flow) begin() {
	for i := range f.ends {
		e := &f.ends[i]
		var err error
		if e.slot, err = f.pump.add(e.fd, socketEvent, e); err != nil {
			e.slot = -1
			f.reset()
			return
		}
	}
}

// ready implements source.
func (e *flowEnd) ready(events uint32) {
	f := e.flow
	const broken = unix.EPOLLERR | unix.EPOLLHUP
	e.readable = e.readable || events&(unix.EPOLLIN|unix.EPOLLRDHUP|broken) != 0
	e.writable = e.writable || events&(unix.EPOLLOUT|broken) != 0
	e.last = e.last || events&(unix.EPOLLRDHUP|broken) != 0
	if f.connecting {
		if e != &f.ends[inner] || !e.writable {
			return
		}
		if soError(e.fd) != nil {
			f.reset()
			return
		}
		f.connecting = false
		f.expiry.Stop()
	}
	if events&unix.EPOLLERR != 0 && e.through {
		f.reset() // nobody reads this end any more who could notice
		return
	}
	f.turn()
}

// turn moves what can be moved, up to a bound.
func (f *flow) turn() {
	if f.closed || f.connecting {
		return
	}
	for i := range f.ends {
		more, err := f.move(&f.ends[i], &f.ends[1-i])
		if err != nil {
			f.reset()
			return
		}
		if more && !f.waiting {
			f.waiting = true
			f.pump.again = append(f.pump.again, f)
		}
	}
	if f.ends[inner].through && f.ends[outer].through {
		f.close()
	}
}

// move carries data from one end to the other. more says that there is more to
// do at once.
func (f *flow) move(src, dst *flowEnd) (more bool, err error) {
	for moved := 0; !src.through; {
		if moved >= turnSize {
			return true, nil
		}
		if src.held == 0 {
			if !src.readable {
				return false, nil
			}
			if err := src.fill(); err != nil || src.held == 0 && !src.through {
				return false, err
			}
			if src.through {
				if !dst.through { // else both are closed now
					// Fails when the other end is gone, which its own events tell.
					_ = unix.Shutdown(dst.fd, unix.SHUT_WR)
				}
				return false, nil
			}
		}
		if !dst.writable {
			return false, nil
		}
		n, err := splice(src.pipe.r, dst.fd, src.held)
		switch err {
		case nil:
			src.held -= n
			moved += n
			if src.held == 0 && !src.readable {
				src.letGo()
			}
		case unix.EAGAIN:
			dst.writable = false
		default:
			return false, os.NewSyscallError("splice", err)
		}
	}
	return false, nil
}

// fill moves what the socket has into a pipe.
func (e *flowEnd) fill() (err error) {
	if e.pipe == nil {
		if e.pipe, err = e.flow.pump.takePipe(); err != nil {
			return err
		}
	}
	n, err := splice(e.fd, e.pipe.w, spliceSize)
	switch {
	case err == unix.EAGAIN:
		e.readable = false
		e.letGo()
		return nil
	case err != nil:
		return os.NewSyscallError("splice", err)
	case n == 0:
		e.through = true
		e.letGo()
		return nil
	}
	e.held = n
	if n < shortRead && !e.last {
		e.readable = false // what comes later makes an event of its own
	}
	return nil
}

// letGo gives the empty pipe back.
func (e *flowEnd) letGo() {
	e.flow.pump.givePipe(e.pipe)
	e.pipe = nil
}

// abort breaks both connections soon. Any goroutine may call it.
func (f *flow) abort() { f.pump.post(f.reset) }

// reset breaks both connections, so that both far ends notice at once.
func (f *flow) reset() {
	if f.closed {
		return
	}
	for i := range f.ends {
		lingerNot(f.ends[i].fd)
	}
	f.close()
}

func (f *flow) close() {
	f.closed = true
	if f.expiry != nil {
		f.expiry.Stop()
	}
	for i := range f.ends {
		e := &f.ends[i]
		if e.slot >= 0 {
			f.pump.drop(e.slot)
		}
		if e.pipe != nil {
			e.pipe.close() // it may hold data that nobody wants any more
		}
		unix.Close(e.fd)
	}
	f.pump.load.Add(-1)
	f.ended()
}

func soError(fd int) error {
	code, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err == nil && code != 0 {
		err = unix.Errno(code)
	}
	if err != nil {
		return os.NewSyscallError("connect", err)
	}
	return nil
}

// lingerNot makes the socket's close a reset.
func lingerNot(fd int) {
	_ = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
}

func resetSocket(fd int) {
	lingerNot(fd)
	unix.Close(fd)
}
