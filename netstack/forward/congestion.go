package forward

import (
	"net"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// A host whose congestion control paces (BBR) does so on loopback too, where
// there is nothing to share: it costs most of the throughput. Sockets whose
// other end is on this host use localCongestion instead. Pacing cannot be
// taken off a socket again, so they begin with it and those that turn out to
// leave the host get the host's algorithm back.
const localCongestion = "reno"

// beginLocal gives a socket that is not connected yet localCongestion when the
// host's algorithm paces.
func beginLocal(_, _ string, c syscall.RawConn) error {
	return c.Control(func(fd uintptr) {
		if paces(congestion(int(fd))) {
			_ = unix.SetsockoptString(int(fd), unix.IPPROTO_TCP, unix.TCP_CONGESTION, localCongestion)
		}
	})
}

// settle gives a connection that leaves this host the algorithm of the host.
func settle(c *net.TCPConn, host string) {
	if !paces(host) || sameHost(c) {
		return
	}
	if raw, err := c.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) {
			_ = unix.SetsockoptString(int(fd), unix.IPPROTO_TCP, unix.TCP_CONGESTION, host)
		})
	}
}

func sameHost(c *net.TCPConn) bool {
	local, remote := c.LocalAddr().(*net.TCPAddr), c.RemoteAddr().(*net.TCPAddr)
	return local.IP.Equal(remote.IP) || remote.IP.IsLoopback()
}

// congestion returns the algorithm that a socket uses.
func congestion(fd int) string {
	name, _ := unix.GetsockoptString(fd, unix.IPPROTO_TCP, unix.TCP_CONGESTION)
	return name
}

func paces(algorithm string) bool { return strings.HasPrefix(algorithm, "bbr") }

// hostCongestion returns the algorithm of the host's new sockets.
func hostCongestion() string {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return ""
	}
	defer unix.Close(fd)
	return congestion(fd)
}
