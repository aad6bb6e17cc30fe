package link

import (
	"errors"
	"fmt"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// Visitor is a thread that opens sockets of any namespace without handing the
// work to another thread.
type Visitor struct {
	park *os.File
	in   *Namespace // nil where idle visitors wait
}

// StartVisitor runs fn in a goroutine with a thread of its own. Only fn, and
// only in that goroutine, may use the Visitor. The thread ends with fn.
func StartVisitor(fn func(*Visitor)) error {
	visitors.mu.Lock()
	defer visitors.mu.Unlock()
	ready := make(chan error, 1)
	go func() {
		park, err := leaveHost()
		ready <- err
		if err == nil {
			fn(&Visitor{park: park})
		}
	}()
	if err := <-ready; err != nil {
		return fmt.Errorf("cannot prepare a thread for network namespaces: %w", err)
	}
	return nil
}

// ConnectTCP is the function of that name, from inside n, where the thread
// stays until Leave.
func (v *Visitor) ConnectTCP(n *Namespace, from Local, to netip.AddrPort) (fd int, err error) {
	if v.in != n {
		if err := unix.Setns(n.Fd(), unix.CLONE_NEWNET); err != nil {
			return -1, fmt.Errorf("cannot enter the network namespace: %w", err)
		}
		v.in = n
	}
	return ConnectTCP(from, to, nil)
}

// Leave ends the visit, so that the thread keeps no network alive.
func (v *Visitor) Leave() {
	if v.in != nil && unix.Setns(int(v.park.Fd()), unix.CLONE_NEWNET) == nil {
		v.in = nil
	}
}

// ConnectTCP begins to connect from the thread's namespace, after prepare has
// set options. The socket becomes writable when the handshake has ended;
// SO_ERROR then tells how.
func ConnectTCP(from Local, to netip.AddrPort, prepare func(fd int)) (fd int, err error) {
	fd, err = unix.Socket(family(to.Addr()), unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	if err := beginTCP(fd, from, to, prepare); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

func beginTCP(fd int, from Local, to netip.AddrPort, prepare func(fd int)) error {
	if err := PassOn(fd); err != nil {
		return err
	}
	if prepare != nil {
		prepare(fd)
	}
	if err := from.bind(fd); err != nil {
		return err
	}
	return beginConnect(fd, to)
}

// PassOn sets up a TCP socket, or what a listener accepts, of which all is
// carried on: at once, and with urgent data among the rest.
func PassOn(fd int) error {
	return os.NewSyscallError("setsockopt", errors.Join(
		unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_OOBINLINE, 1),
	))
}
