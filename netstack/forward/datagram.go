package forward

import (
	"net"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// maxDatagram is the longest UDP datagram there is.
const maxDatagram = 65535

// datagramBuffers are held only while a datagram passes, so that idle flows
// cost no buffer.
var datagramBuffers = sync.Pool{New: func() any { return new([maxDatagram]byte) }}

// readDatagrams passes every datagram that c receives to handle until c fails
// or is closed. handle must not keep its argument.
func readDatagrams(c *net.UDPConn, handle func([]byte)) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	read := func(fd uintptr) bool {
		var done bool
		done, failed = readBatch(int(fd), handle)
		return done
	}
	for failed == nil {
		if err := raw.Read(read); err != nil {
			return err
		}
	}
	return failed
}

// readBatch handles what the socket holds. done is false when it is empty.
func readBatch(fd int, handle func([]byte)) (done bool, err error) {
	buf := datagramBuffers.Get().(*[maxDatagram]byte)
	defer datagramBuffers.Put(buf)
	for range 64 { // then look whether the socket was closed
		n, err := unix.Read(fd, buf[:])
		switch err {
		case nil:
			handle(buf[:n])
		case unix.EINTR:
		case unix.EAGAIN:
			return false, nil
		default:
			return true, os.NewSyscallError("read", err)
		}
	}
	return true, nil
}
