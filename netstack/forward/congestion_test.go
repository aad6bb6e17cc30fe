package forward

import (
	"net"
	"syscall"
	"testing"

	"github.com/kelp-engine/kelp/test/nstest"
)

// TestCongestion: connections within this host do not pace, also accepted ones.
func TestCongestion(t *testing.T) {
	host := hostCongestion()
	want := host
	if paces(host) {
		want = localCongestion
	}
	lc := listenConfig()
	l, err := lc.Listen(t.Context(), "tcp4", nstest.HostIPv4+":0")
	check(t, err)
	defer l.Close()
	dialer := net.Dialer{Control: func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) { beginLocal(int(fd), host) })
	}}
	near, err := dialer.Dial("tcp4", l.Addr().String())
	check(t, err)
	defer near.Close()
	far, err := l.Accept()
	check(t, err)
	defer far.Close()
	for name, c := range map[string]net.Conn{"dialed": near, "accepted": far} {
		raw, err := c.(*net.TCPConn).SyscallConn()
		check(t, err)
		_ = raw.Control(func(fd uintptr) {
			settle(int(fd), c.RemoteAddr().(*net.TCPAddr).AddrPort(), host)
			if got := congestion(int(fd)); got != want {
				t.Errorf("the %s socket uses %s instead of %s", name, got, want)
			}
		})
	}
}
