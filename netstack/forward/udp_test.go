package forward

import (
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/kelp-engine/kelp/test/nstest"
	"golang.org/x/sys/unix"
)

// remoteUDP is a socket of the host.
func remoteUDP(t *testing.T, addr string) *net.UDPConn {
	t.Helper()
	c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort(addr)))
	check(t, err)
	t.Cleanup(func() { c.Close() })
	check(t, c.SetDeadline(time.Now().Add(time.Minute)))
	return c
}

func hear(t *testing.T, c *net.UDPConn) (string, netip.AddrPort) {
	t.Helper()
	buf := make([]byte, 2000)
	n, from, err := c.ReadFromUDPAddrPort(buf)
	check(t, err)
	return string(buf[:n]), unmapped(from)
}

func TestUDPOnePortForAllRemotes(t *testing.T) {
	bothWays(t, func(t *testing.T, n *testNetwork) {
		for _, host := range []string{nstest.HostIPv4 + ":0", "[" + nstest.HostIPv6 + "]:0"} {
			first, second, third := remoteUDP(t, host), remoteUDP(t, host), remoteUDP(t, host)
			any := netip.MustParseAddrPort("0.0.0.0:0")
			stranger := remoteUDP(t, "127.0.0.2:0")
			if first.LocalAddr().(*net.UDPAddr).IP.To4() == nil {
				any, stranger = netip.MustParseAddrPort("[::]:0"), remoteUDP(t, "[::1]:0")
			}
			c, err := n.container.ListenPacket("udp", net.UDPAddrFromAddrPort(any))
			check(t, err)
			defer c.Close()
			check(t, c.SetDeadline(time.Now().Add(time.Minute)))
			say := func(to *net.UDPConn, word string) netip.AddrPort {
				t.Helper()
				_, err := c.WriteTo([]byte(word), to.LocalAddr())
				check(t, err)
				got, from := hear(t, to)
				if got != word {
					t.Fatalf("%q came instead of %q", got, word)
				}
				return from
			}
			seen := say(first, "one")
			if again := say(second, "two"); again != seen {
				t.Errorf("one remote sees %s, another %s", seen, again)
			}
			// A remote that was spoken to may answer from another port; who
			// was not is not heard.
			for _, from := range []*net.UDPConn{stranger, third, first} {
				_, err := from.WriteToUDPAddrPort([]byte(from.LocalAddr().String()), seen)
				check(t, err)
			}
			for _, want := range []*net.UDPConn{third, first} {
				got, from := hear(t, c)
				if got != want.LocalAddr().String() || from.String() != got {
					t.Errorf("%s: heard %q from %s", want.LocalAddr(), got, from)
				}
			}
			if again := say(third, "three"); again != seen {
				t.Errorf("the third sees %s, not %s", again, seen)
			}
		}
	})
}

// What one remote refuses is not taken for another's answer.
func TestUDPRefusedByOneOfSeveral(t *testing.T) {
	bothWays(t, func(t *testing.T, n *testNetwork) {
		open := remoteUDP(t, nstest.HostIPv4+":0")
		closed := remoteUDP(t, nstest.HostIPv4+":0")
		there := closed.LocalAddr().String()
		check(t, closed.Close())
		// One port of the container, a socket for each remote.
		dial := func(to string) (c net.Conn) {
			check(t, n.container.Do(func() (err error) {
				d := net.Dialer{LocalAddr: &net.UDPAddr{IP: container4.AsSlice(), Port: 5353}, Control: reusePort}
				c, err = d.Dial("udp", to)
				return err
			}))
			t.Cleanup(func() { c.Close() })
			check(t, c.SetDeadline(time.Now().Add(time.Minute)))
			return c
		}
		good, bad := dial(open.LocalAddr().String()), dial(there)
		for range 3 {
			_, err := good.Write([]byte("x"))
			check(t, err)
			bad.Write([]byte("x"))
			if _, err := bad.Read(make([]byte, 1)); !errors.Is(err, unix.ECONNREFUSED) {
				t.Fatalf("the closed port answered %v", err)
			}
			_, from := hear(t, open)
			_, err = open.WriteToUDPAddrPort([]byte("y"), from)
			check(t, err)
			if _, err := good.Read(make([]byte, 1)); err != nil {
				t.Fatalf("the open port answered %v", err)
			}
		}
	})
}
