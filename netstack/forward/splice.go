package forward

import (
	"net"
	"os"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	// pipeSize is how much of a stream may be between two sockets. The
	// kernel bounds the pipe memory of a user (pipe-user-pages-soft).
	pipeSize = 256 << 10
	// maxSpare pipes are kept for the next stream that has data, while there
	// are streams.
	maxSpare = 32
)

// pipe moves data between sockets without copying it. A stream holds one only
// while it has data, so that idle connections cost none.
type pipe struct{ r, w int }

var (
	sparePipes = make(chan *pipe, maxSpare)
	streams    atomic.Int32
)

func takePipe() (*pipe, error) {
	select {
	case p := <-sparePipes:
		return p, nil
	default:
	}
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return nil, os.NewSyscallError("pipe2", err)
	}
	// Beyond the user's bound the kernel leaves the pipe small.
	_, _ = unix.FcntlInt(uintptr(fds[0]), unix.F_SETPIPE_SZ, pipeSize)
	return &pipe{r: fds[0], w: fds[1]}, nil
}

// release gives an empty pipe back.
func (p *pipe) release() {
	select {
	case sparePipes <- p:
	default:
		p.close()
	}
}

// endStream closes the spare pipes when it was the last stream.
func endStream() {
	if streams.Add(-1) > 0 {
		return
	}
	for {
		select {
		case p := <-sparePipes:
			p.close()
		default:
			return
		}
	}
}

func (p *pipe) close() {
	unix.Close(p.r)
	unix.Close(p.w)
}

// splicer is one direction of a relay between kernel sockets.
type splicer struct {
	pipe *pipe
	held int // bytes in the pipe
	err  error
}

// spliceAll moves data from src to dst until src ends.
func spliceAll(dst, src *net.TCPConn) error {
	in, err := src.SyscallConn()
	if err != nil {
		return err
	}
	out, err := dst.SyscallConn()
	if err != nil {
		return err
	}
	streams.Add(1)
	defer endStream()
	var s splicer
	defer func() {
		if s.pipe != nil {
			s.pipe.close() // it holds data that nobody wants any more
		}
	}()
	return s.run(out, in)
}

func (s *splicer) run(out, in syscall.RawConn) error {
	fill, drain := s.fill, s.drain // made once: method values allocate
	for {
		if err := in.Read(fill); err != nil {
			return err
		}
		if s.err != nil || s.held == 0 {
			return s.err
		}
		if err := out.Write(drain); err != nil {
			return err
		}
		if s.err != nil {
			return s.err
		}
	}
}

// fill moves what the socket has into the pipe. It returns false to be called
// again when there is more.
func (s *splicer) fill(fd uintptr) bool {
	if s.pipe == nil {
		if s.pipe, s.err = takePipe(); s.err != nil {
			return true
		}
	}
	n, err := splice(int(fd), s.pipe.w, pipeSize)
	switch err {
	case nil:
		s.held = n
		if n == 0 {
			s.letGo()
		}
		return true
	case unix.EAGAIN:
		s.letGo()
		return false
	}
	s.err = os.NewSyscallError("splice", err)
	return true
}

// drain empties the pipe into the socket.
func (s *splicer) drain(fd uintptr) bool {
	for s.held > 0 {
		n, err := splice(s.pipe.r, int(fd), s.held)
		switch err {
		case nil:
			s.held -= n
		case unix.EAGAIN:
			return false
		default:
			s.err = os.NewSyscallError("splice", err)
			return true
		}
	}
	return true
}

func (s *splicer) letGo() {
	s.pipe.release()
	s.pipe = nil
}

func splice(from, to, n int) (int, error) {
	for {
		moved, err := unix.Splice(from, nil, to, nil, n, unix.SPLICE_F_MOVE|unix.SPLICE_F_NONBLOCK)
		if err != unix.EINTR {
			return int(moved), err
		}
	}
}
