// Package link makes the kernel side of kelp's networks by netlink: network
// namespaces, bridges, veth pairs, addresses, routes and the few packet rules.
// Together with its callers' threads it is the only place of netstack that
// enters another namespace.
//
// It must not know gVisor, Docker's API or where addresses come from.
package link

import (
	"fmt"
	"net"
	"os"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Namespace is a network namespace held by a file descriptor: it lives until
// Close, and as long after it as a process or another descriptor is in it.
type Namespace struct {
	file *os.File

	mu     sync.Mutex
	handle *netlink.Handle // made on first use
}

// localCongestion is for links that lose nothing and end on this machine.
// Algorithms that pace, as BBR does, only wait there: they cost three quarters
// of the throughput. What leaves the machine does so from sockets of the host.
var localCongestion = sysctl{"ipv4/tcp_congestion_control", "reno"}

// NewNamespace makes an empty network namespace owned by the user namespace of
// the process.
func NewNamespace() (*Namespace, error) {
	var file *os.File
	err := onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("cannot make a network namespace: %w", err)
		}
		if err := set(localCongestion); err != nil {
			return err
		}
		var err error
		file, err = os.Open("/proc/thread-self/ns/net")
		return err
	})
	if err != nil {
		return nil, err
	}
	return &Namespace{file: file}, nil
}

// Path is a path by which other processes of the same user can join the
// namespace while it is open.
func (n *Namespace) Path() string {
	return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), n.file.Fd())
}

// Fd returns the descriptor that holds the namespace. It stays owned by n.
func (n *Namespace) Fd() int { return int(n.file.Fd()) }

// Do runs fn on a thread that is in the namespace. Sockets that fn makes
// belong to it for good; goroutines that fn starts do not run in it.
func (n *Namespace) Do(fn func() error) error {
	return onThread(func() error {
		if err := unix.Setns(n.Fd(), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("cannot enter the network namespace: %w", err)
		}
		return fn()
	})
}

// Netlink returns a route netlink handle that acts inside the namespace.
func (n *Namespace) Netlink() (*netlink.Handle, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.handle != nil {
		return n.handle, nil
	}
	err := n.Do(func() (err error) {
		n.handle, err = netlink.NewHandle(unix.NETLINK_ROUTE)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("cannot open netlink in the network namespace: %w", err)
	}
	return n.handle, nil
}

// CloseNetlink releases the handle of Netlink until the next use, so that a
// quiet namespace costs one descriptor.
func (n *Namespace) CloseNetlink() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.handle != nil {
		n.handle.Close()
		n.handle = nil
	}
}

// Close lets the namespace go.
func (n *Namespace) Close() error {
	n.CloseNetlink()
	return n.file.Close()
}

// Socket makes a non-blocking socket that belongs to the namespace.
func (n *Namespace) Socket(domain, kind, proto int) (fd int, err error) {
	err = n.Do(func() error {
		fd, err = unix.Socket(domain, kind|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, proto)
		return os.NewSyscallError("socket", err)
	})
	return fd, err
}

// LoopbackUp brings the namespace's lo up.
func (n *Namespace) LoopbackUp() error {
	h, err := n.Netlink()
	if err != nil {
		return err
	}
	lo, err := h.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("cannot find lo: %w", err)
	}
	return h.LinkSetUp(lo)
}

// ListenPacket opens a UDP socket of the namespace.
func (n *Namespace) ListenPacket(network string, addr *net.UDPAddr) (c *net.UDPConn, err error) {
	err = n.Do(func() error {
		c, err = net.ListenUDP(network, addr)
		return err
	})
	return c, err
}

// Listen opens a listening TCP socket of the namespace.
func (n *Namespace) Listen(network string, addr *net.TCPAddr) (l *net.TCPListener, err error) {
	err = n.Do(func() error {
		l, err = net.ListenTCP(network, addr)
		return err
	})
	return l, err
}
