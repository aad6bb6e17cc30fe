package forward

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"

	"github.com/kelp-engine/kelp/netstack/link"
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

// dialUDPFrom opens a UDP socket of the namespace that speaks with remote
// under the address local, which need not be the namespace's own.
func dialUDPFrom(ns *link.Namespace, local, remote netip.AddrPort) (*net.UDPConn, error) {
	fd, err := ns.Socket(family(remote.Addr()), unix.SOCK_DGRAM, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "udp")
	defer f.Close() // FileConn keeps a copy
	if err := bindForeign(fd, local); err != nil {
		return nil, err
	}
	if err := unix.Connect(fd, sockaddr(remote)); err != nil {
		return nil, fmt.Errorf("cannot connect to %s: %w", remote, err)
	}
	// Until it was connected the socket took datagrams of other senders.
	var drop [1]byte
	for {
		if _, err := unix.Read(fd, drop[:]); err != nil {
			break
		}
	}
	c, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	return c.(*net.UDPConn), nil
}

// bindForeign binds a socket to an address that need not be local and that
// other sockets may use as well towards other destinations.
func bindForeign(fd int, local netip.AddrPort) error {
	if err := setTransparent(fd, local.Addr().Is6()); err != nil {
		return err
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return os.NewSyscallError("setsockopt SO_REUSEADDR", err)
	}
	if err := unix.Bind(fd, sockaddr(local)); err != nil {
		return fmt.Errorf("cannot bind %s: %w", local, err)
	}
	return nil
}

func family(a netip.Addr) int {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Addr: a.Addr().As4(), Port: int(a.Port())}
	}
	return &unix.SockaddrInet6{Addr: a.Addr().As16(), Port: int(a.Port())}
}
