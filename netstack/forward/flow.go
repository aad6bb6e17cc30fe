package forward

import (
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// turnSize is how much one direction of a flow may move before others
	// have their turn.
	turnSize = 4 << 20
	// shortRead is what is copied rather than spliced. It is no more than any
	// empty pipe takes.
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
	// bulk says that the last read brought much.
	bulk bool
	// urgent says that there was urgent data, before which reads stop though
	// there is more, and which splice does not pass at all.
	urgent bool
	pipe   *pipe // nil while there is nothing in it
	held   int   // bytes in the pipe
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
	f.ends[outer].writable = true // else it will say so
	if f.connecting {
		f.expiry = time.AfterFunc(patience, func() { p.post(f.expire) })
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
	e.urgent = e.urgent || events&unix.EPOLLPRI != 0
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
			if !src.readable || src.urgent && !dst.writable {
				return false, nil
			}
			n, err := src.fill(dst)
			if err != nil {
				return false, err
			}
			if src.through {
				if !dst.through { // else both are closed now
					// Fails when the other end is gone, which its own events tell.
					_ = unix.Shutdown(dst.fd, unix.SHUT_WR)
				}
				return false, nil
			}
			moved += n
			continue
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

// fill takes what the socket has: a little goes to dst at once, which is
// cheaper than a pipe, more into a pipe. It returns how much has gone to dst.
func (e *flowEnd) fill(dst *flowEnd) (sent int, err error) {
	if dst.writable && (!e.bulk || e.urgent) {
		return e.pass(dst)
	}
	if err := e.needPipe(); err != nil {
		return 0, err
	}
	n, err := splice(e.fd, e.pipe.w, spliceSize)
	if err != nil {
		err = os.NewSyscallError("splice", err)
	}
	// Little may be all that there was, or a pipe full of small pieces.
	e.held, e.bulk = max(n, 0), n >= shortRead
	return 0, e.took(n, err)
}

// pass gives a little on to dst.
func (e *flowEnd) pass(dst *flowEnd) (sent int, err error) {
	p := e.flow.pump.little[:]
	n, err := unix.Read(e.fd, p)
	if err != nil {
		err = os.NewSyscallError("read", err)
	}
	if err := e.took(n, err); n <= 0 || err != nil {
		return 0, err
	}
	if e.bulk = n == len(p); !e.bulk && !e.last && !e.urgent {
		e.readable = false // what comes later makes an event of its own
		e.letGo()
	}
	// With the end of the stream on its way its last data can go with it.
	sent, err = send(dst.fd, p[:n], e.last)
	switch {
	case err == unix.EAGAIN:
		dst.writable, sent = false, 0
	case err != nil:
		return 0, os.NewSyscallError("sendto", err)
	}
	if sent == n {
		return n, nil
	}
	if err := e.needPipe(); err != nil {
		return sent, err
	}
	e.held, err = unix.Write(e.pipe.w, p[sent:n]) // an empty pipe takes at least a page
	return sent, os.NewSyscallError("write", err)
}

// took judges by what a read brought whether there is more to read.
func (e *flowEnd) took(n int, err error) error {
	switch {
	case errors.Is(err, unix.EAGAIN):
		e.readable = false
		e.letGo()
	case err != nil:
		return err
	case n == 0:
		e.through = true
		e.letGo()
	}
	return nil
}

func (e *flowEnd) needPipe() (err error) {
	if e.pipe == nil {
		e.pipe, err = e.flow.pump.takePipe()
	}
	return err
}

// letGo gives the empty pipe back, if there is one.
func (e *flowEnd) letGo() {
	if e.pipe == nil {
		return
	}
	e.flow.pump.givePipe(e.pipe)
	e.pipe = nil
}

// abort breaks both connections soon. Any goroutine may call it.
func (f *flow) abort() { f.pump.post(f.reset) }

// expire ends a flow whose inner end takes too long to connect.
func (f *flow) expire() {
	if f.connecting {
		f.reset()
	}
}

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
