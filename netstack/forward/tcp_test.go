package forward

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A SYN that was lost when it had been let in, as on a busy machine, does not
// delay the connection for longer than until the container sends it again.
func TestLostSYN(t *testing.T) {
	n := newNetwork(t, EgressConfig{})
	host, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	defer host.Close()
	dialed, err := net.Dial("tcp", host.Addr().String())
	check(t, err)
	fd := takeFD(t, dialed)
	from, to := netip.AddrPortFrom(container4, 40000), netip.MustParseAddrPort("198.51.100.9:80")
	flows := n.egress.tcp
	flows.mu.Lock()
	flows.begin(from.Addr())
	flows.dialed[flowID{from, to}] = dialedSocket{fd, now()}
	flows.mu.Unlock()

	d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(from), Timeout: 4 * time.Second} // less than kelp waits itself
	check(t, n.container.Do(func() error {
		c, err := d.Dial("tcp", to.String())
		if err == nil {
			defer c.Close()
			_, err = c.Write([]byte("x"))
		}
		return err
	}))
	s, err := host.Accept()
	check(t, err)
	defer s.Close()
	check(t, s.SetDeadline(time.Now().Add(time.Minute)))
	_, err = s.Read(make([]byte, 1))
	check(t, err)
}

// takeFD returns a copy of a connection's socket and closes that.
func takeFD(t *testing.T, c net.Conn) (fd int) {
	t.Helper()
	defer c.Close()
	raw, err := c.(*net.TCPConn).SyscallConn()
	check(t, err)
	check(t, raw.Control(func(own uintptr) { fd, err = unix.FcntlInt(own, unix.F_DUPFD_CLOEXEC, 0) }))
	check(t, err)
	return fd
}
