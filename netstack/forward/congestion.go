package forward

import (
	"net/netip"
	"strings"
	"syscall"

	"github.com/kelp-engine/kelp/netstack/link"
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
func beginLocal(fd int, host string) {
	if paces(host) {
		_ = unix.SetsockoptString(fd, unix.IPPROTO_TCP, unix.TCP_CONGESTION, localCongestion)
	}
}

// settle gives a connection that leaves this host the algorithm of the host.
func settle(fd int, remote netip.AddrPort, host string) {
	if paces(host) && !remote.Addr().IsLoopback() && localAddr(fd).Addr() != remote.Addr() {
		_ = unix.SetsockoptString(fd, unix.IPPROTO_TCP, unix.TCP_CONGESTION, host)
	}
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

// congestion returns the algorithm that a socket uses.
func congestion(fd int) string {
	name, _ := unix.GetsockoptString(fd, unix.IPPROTO_TCP, unix.TCP_CONGESTION)
	return name
}

// listenOptions sets what accepted connections inherit.
func listenOptions(host string) func(network, address string, c syscall.RawConn) error {
	return func(network, _ string, c syscall.RawConn) (err error) {
		ctl := c.Control(func(fd uintptr) {
			if strings.HasPrefix(network, "tcp") {
				beginLocal(int(fd), host)
				_ = link.PassOn(int(fd))
				keepAlive(int(fd))
			}
			if strings.HasSuffix(network, "6") {
				err = unix.SetsockoptInt(int(fd), unix.SOL_IPV6, unix.IPV6_V6ONLY, 1)
			}
		})
		if ctl != nil {
			return ctl
		}
		return err
	}
}

// keepAlive finds out about far ends that went away without a word.
func keepAlive(fd int) {
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, int(keepAliveIdle.Seconds()))
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, int(keepAliveInterval.Seconds()))
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPCNT, keepAliveCount)
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1)
}
