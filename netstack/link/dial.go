package link

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Local is the near end of a socket to be opened. The zero Local leaves it to
// the kernel.
type Local struct {
	Addr netip.AddrPort
	// Foreign says that the address need not be the namespace's own.
	Foreign bool
}

// dialTimeout is how long a handshake inside a network may take.
const dialTimeout = 30 * time.Second

// DialTCP connects from inside the namespace.
func (n *Namespace) DialTCP(ctx context.Context, from Local, to netip.AddrPort) (*net.TCPConn, error) {
	c, err := n.connect(unix.SOCK_STREAM, 0, from, to)
	if err != nil {
		return nil, err
	}
	conn := c.(*net.TCPConn)
	if err := awaitConnect(ctx, conn); err != nil {
		conn.Close()
		return nil, err
	}
	return conn, conn.SetNoDelay(true)
}

// DialUDP opens a connected UDP socket of the namespace.
func (n *Namespace) DialUDP(from Local, to netip.AddrPort) (*net.UDPConn, error) {
	c, err := n.connect(unix.SOCK_DGRAM, 0, from, to)
	if err != nil {
		return nil, err
	}
	u := c.(*net.UDPConn)
	return u, u.SetReadBuffer(DatagramBuffer)
}

// DatagramBuffer is how much a UDP socket that is relayed may hold; the kernel
// gives what net.core.rmem_max allows.
const DatagramBuffer = 4 << 20

// connect begins to connect a socket of the namespace.
func (n *Namespace) connect(kind, proto int, from Local, to netip.AddrPort) (net.Conn, error) {
	fd, err := n.Socket(family(to.Addr()), kind, proto)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "socket")
	defer f.Close() // FileConn keeps a copy
	if proto == unix.IPPROTO_SCTP {
		if err := PrepareSCTP(fd); err != nil {
			return nil, err
		}
	}
	if err := from.bind(fd); err != nil {
		return nil, err
	}
	if err := beginConnect(fd, to); err != nil {
		return nil, err
	}
	if kind == unix.SOCK_DGRAM {
		drain(fd)
	}
	return net.FileConn(f)
}

func beginConnect(fd int, to netip.AddrPort) error {
	if err := unix.Connect(fd, sockaddr(to)); err != nil && err != unix.EINPROGRESS {
		return fmt.Errorf("cannot connect to %s: %w", to, err)
	}
	return nil
}

// drain drops what a datagram socket took from anybody before it was
// connected.
func drain(fd int) {
	var drop [1]byte
	for {
		if _, err := unix.Read(fd, drop[:]); err != nil && err != unix.EINTR {
			return
		}
	}
}

// bind gives a socket its near end. Others may have the same foreign address
// towards other destinations.
func (l Local) bind(fd int) error {
	a := l.Addr.Addr()
	if !a.IsValid() || a.IsUnspecified() {
		return nil
	}
	if l.Foreign {
		if err := SetTransparent(fd, a.Is6()); err != nil {
			return err
		}
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
			return os.NewSyscallError("setsockopt SO_REUSEADDR", err)
		}
	}
	if l.Addr.Port() == 0 { // chosen by connect, which knows the destination
		if err := unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1); err != nil {
			return os.NewSyscallError("setsockopt IP_BIND_ADDRESS_NO_PORT", err)
		}
	}
	if err := unix.Bind(fd, sockaddr(l.Addr)); err != nil {
		return fmt.Errorf("cannot bind %s: %w", l.Addr, err)
	}
	return nil
}

// SetTransparent lets a socket use addresses that are not its namespace's.
func SetTransparent(fd int, ipv6 bool) error {
	if ipv6 {
		return os.NewSyscallError("setsockopt IPV6_TRANSPARENT", unix.SetsockoptInt(fd, unix.SOL_IPV6, unix.IPV6_TRANSPARENT, 1))
	}
	return os.NewSyscallError("setsockopt IP_TRANSPARENT", unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_TRANSPARENT, 1))
}

// awaitConnect waits until the handshake of conn has ended.
func awaitConnect(ctx context.Context, conn *net.TCPConn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	if err := conn.SetWriteDeadline(time.Now().Add(dialTimeout)); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetWriteDeadline(time.Unix(1, 0)) })
	defer stop()
	var failed error
	err = raw.Write(func(fd uintptr) bool {
		code, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR)
		switch {
		case err != nil:
			failed = err
		case code != 0:
			failed = os.NewSyscallError("connect", unix.Errno(code))
		default:
			_, err := unix.Getpeername(int(fd))
			return err == nil // else the handshake goes on
		}
		return true
	})
	if err := errors.Join(err, failed); err != nil {
		return err
	}
	return conn.SetWriteDeadline(time.Time{})
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
