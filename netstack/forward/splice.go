package forward

import (
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// pipeSize is how much of a stream may be between two sockets, if each
	// page of the pipe held no more than a page. The kernel bounds the pipe
	// memory of a user (pipe-user-pages-soft).
	pipeSize = 256 << 10
	// spliceSize is how much is asked for at once: sockets put pieces into a
	// pipe that are larger than pages.
	spliceSize = 1 << 20
	// maxSpare pipes are kept by a pump for the next stream that has data.
	maxSpare = 16
)

// pipe moves data between sockets without copying it. A stream holds one only
// while it has data, so that idle connections cost none.
type pipe struct{ r, w int }

func (p *pump) takePipe() (*pipe, error) {
	if n := len(p.pipes); n > 0 {
		spare := p.pipes[n-1]
		p.pipes = p.pipes[:n-1]
		return spare, nil
	}
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return nil, os.NewSyscallError("pipe2", err)
	}
	// Beyond the user's bound the kernel leaves the pipe small.
	_, _ = unix.FcntlInt(uintptr(fds[0]), unix.F_SETPIPE_SZ, pipeSize)
	return &pipe{r: fds[0], w: fds[1]}, nil
}

// givePipe gives an empty pipe back.
func (p *pump) givePipe(spare *pipe) {
	if len(p.pipes) < maxSpare {
		p.pipes = append(p.pipes, spare)
	} else {
		spare.close()
	}
}

// dropSpare closes the spare pipes, when there are no connections any more.
func (p *pump) dropSpare() {
	for _, spare := range p.pipes {
		spare.close()
	}
	p.pipes = nil
}

func (p *pipe) close() {
	unix.Close(p.r)
	unix.Close(p.w)
}

func splice(from, to, n int) (int, error) {
	for {
		moved, err := unix.Splice(from, nil, to, nil, n, unix.SPLICE_F_MOVE|unix.SPLICE_F_NONBLOCK)
		if err != unix.EINTR {
			return int(moved), err
		}
	}
}

// send puts p on a socket; more says that more follows at once, or the end.
func send(fd int, p []byte, more bool) (int, error) {
	flags := unix.MSG_NOSIGNAL | unix.MSG_DONTWAIT
	if more {
		flags |= unix.MSG_MORE
	}
	for {
		n, _, errno := unix.Syscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)), uintptr(flags), 0, 0)
		if errno == 0 {
			return int(n), nil
		}
		if errno != unix.EINTR {
			return 0, errno
		}
	}
}
