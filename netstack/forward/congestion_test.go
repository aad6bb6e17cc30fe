package forward

import (
	"net"
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
	lc := listenConfig("tcp4")
	l, err := lc.Listen(t.Context(), "tcp4", nstest.HostIPv4+":0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dialer := net.Dialer{Control: beginLocal}
	near, err := dialer.Dial("tcp4", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer near.Close()
	far, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	for name, c := range map[string]net.Conn{"dialed": near, "accepted": far} {
		settle(c.(*net.TCPConn), host)
		raw, err := c.(*net.TCPConn).SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		_ = raw.Control(func(fd uintptr) {
			if got := congestion(int(fd)); got != want {
				t.Errorf("the %s socket uses %s instead of %s", name, got, want)
			}
		})
	}
}
