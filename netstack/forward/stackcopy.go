package forward

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/waiter"
)

// copyBuffer is the size of the pieces in which data crosses between the stack
// and the host.
const copyBuffer = 64 << 10

// copyBuffers are held only while there is data, so that idle connections cost
// none.
var copyBuffers = sync.Pool{New: func() any { return new([copyBuffer]byte) }}

// stackToHost copies what a connection of the stack receives until its end.
func stackToHost(dst io.Writer, ep tcpip.Endpoint, wq *waiter.Queue) error {
	entry, ready := waiter.NewChannelEntry(waiter.ReadableEvents | waiter.EventHUp | waiter.EventErr)
	wq.EventRegister(&entry)
	defer wq.EventUnregister(&entry)
	for {
		ended, err := drainStack(dst, ep)
		if ended || err != nil {
			return err
		}
		<-ready
	}
}

// drainStack copies what is there.
func drainStack(dst io.Writer, ep tcpip.Endpoint) (ended bool, err error) {
	buf := copyBuffers.Get().(*[copyBuffer]byte)
	defer copyBuffers.Put(buf)
	for {
		w := tcpip.SliceWriter(buf[:])
		r, terr := ep.Read(&w, tcpip.ReadOptions{})
		switch terr.(type) {
		case nil:
		case *tcpip.ErrWouldBlock:
			return false, nil
		case *tcpip.ErrClosedForReceive:
			return true, nil
		default:
			return false, errors.New(terr.String())
		}
		if _, err := dst.Write(buf[:r.Count]); err != nil {
			return false, err
		}
	}
}

// hostToStack copies what a connection of the host receives until its end.
func hostToStack(dst io.Writer, src *net.TCPConn) error {
	raw, err := src.SyscallConn()
	if err != nil {
		return err
	}
	var buf *[copyBuffer]byte
	var n int
	var failed error
	fill := func(fd uintptr) bool {
		buf = copyBuffers.Get().(*[copyBuffer]byte)
		for {
			n, failed = unix.Read(int(fd), buf[:])
			if failed != unix.EINTR {
				break
			}
		}
		if failed == unix.EAGAIN {
			copyBuffers.Put(buf)
			return false
		}
		return true
	}
	for {
		if err := raw.Read(fill); err != nil {
			return err
		}
		if failed == nil && n > 0 {
			_, failed = dst.Write(buf[:n])
		} else if failed != nil {
			failed = os.NewSyscallError("read", failed)
		}
		copyBuffers.Put(buf)
		if failed != nil || n == 0 {
			return failed
		}
	}
}
