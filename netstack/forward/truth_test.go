package forward

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"

	"github.com/kelp-engine/kelp/test/nstest"
)

// noes are destinations and what a process on the host is told of them. The
// host of the tests has no default route: to all others it is offline.
var noes = []struct {
	what, addr string
	want       error
	ping       icmp.Type
	code       int
}{
	{"closed", nstest.HostIPv4, unix.ECONNREFUSED, nil, 0},
	{"closed", nstest.HostIPv6, unix.ECONNREFUSED, nil, 0},
	{"no route", "203.0.113.1", unix.ENETUNREACH, ipv4.ICMPTypeDestinationUnreachable, 0},
	{"no route", "2001:db8:9::1", unix.ENETUNREACH, ipv6.ICMPTypeDestinationUnreachable, 0},
	{"unreachable", nstest.UnreachableIPv4, unix.EHOSTUNREACH, ipv4.ICMPTypeDestinationUnreachable, 1},
	{"unreachable", nstest.UnreachableIPv6, unix.EHOSTUNREACH, ipv6.ICMPTypeDestinationUnreachable, 3},
	{"prohibited", nstest.ProhibitedIPv4, unix.EHOSTUNREACH, ipv4.ICMPTypeDestinationUnreachable, 13},
	{"prohibited", nstest.ProhibitedIPv6, unix.EACCES, ipv6.ICMPTypeDestinationUnreachable, 1},
	{"host's loopback", "169.254.255.254", unix.EHOSTUNREACH, ipv4.ICMPTypeDestinationUnreachable, 13},
	{"host's loopback", HostGateway6.String(), unix.EACCES, ipv6.ICMPTypeDestinationUnreachable, 1},
	{"this network", "0.1.2.3", unix.EHOSTUNREACH, ipv4.ICMPTypeDestinationUnreachable, 13},
}

func TestTCPIsToldNo(t *testing.T) {
	bothWays(t, func(t *testing.T, n *testNetwork) {
		for _, c := range noes {
			begin := time.Now()
			if _, err := n.dial("tcp", net.JoinHostPort(c.addr, "9")); !errors.Is(err, c.want) {
				t.Errorf("%s (%s): got %v, want %v", c.addr, c.what, err, c.want)
			}
			if took := time.Since(begin); took > time.Minute { // the kernel would try for two minutes
				t.Errorf("%s (%s): it took %s", c.addr, c.what, took)
			}
		}
	})
}

func TestUDPIsToldNo(t *testing.T) {
	bothWays(t, func(t *testing.T, n *testNetwork) {
		for _, c := range noes {
			conn, err := n.dial("udp", net.JoinHostPort(c.addr, "9"))
			check(t, err)
			defer conn.Close()
			hearAll(t, conn.(*net.UDPConn))
			for range 2 { // also when the flow is there already
				_, _ = conn.Write([]byte("x"))
				check(t, conn.SetReadDeadline(time.Now().Add(time.Minute)))
				if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, c.want) {
					t.Errorf("%s (%s): got %v, want %v", c.addr, c.what, err, c.want)
				}
			}
		}
	})
}

// hearAll has a socket told of what else only the kernel knows, which waits for
// things to change.
func hearAll(t *testing.T, c *net.UDPConn) {
	t.Helper()
	raw, err := c.SyscallConn()
	check(t, err)
	check(t, raw.Control(func(fd uintptr) {
		if unix.SetsockoptInt(int(fd), unix.SOL_IP, unix.IP_RECVERR, 1) != nil {
			check(t, unix.SetsockoptInt(int(fd), unix.SOL_IPV6, unix.IPV6_RECVERR, 1))
		}
		_ = unix.SetsockoptInt(int(fd), unix.SOL_IPV6, unix.IPV6_RECVERR, 1) // not for IPv4
	}))
}

func TestPingIsToldNo(t *testing.T) {
	n := newNetwork(t, EgressConfig{})
	for _, c := range noes {
		if c.ping == nil {
			continue // it answers
		}
		if m := n.ping(t, c.addr, "kelp"); m.Type != c.ping || m.Code != c.code {
			t.Errorf("%s (%s): got %v code %d, want %v code %d", c.addr, c.what, m.Type, m.Code, c.ping, c.code)
		}
	}
}

// What a router on the way says reaches the container as well. (The kernel's
// routers say it a few times a second only.)
func TestRoutersSayNo(t *testing.T) {
	n := newNetwork(t, EgressConfig{})
	for _, c := range []struct {
		to   string
		want error
		ping icmp.Type
		from string
	}{
		{nstest.DeadIPv4, unix.EHOSTUNREACH, ipv4.ICMPTypeDestinationUnreachable, nstest.RouterIPv4},
		{nstest.DeadIPv6, unix.ENETUNREACH, ipv6.ICMPTypeDestinationUnreachable, nstest.RouterIPv6},
	} {
		if _, err := n.dial("tcp", net.JoinHostPort(c.to, "9")); !errors.Is(err, c.want) {
			t.Errorf("%s by TCP: got %v, want %v", c.to, err, c.want)
		}
		conn, err := n.dial("udp", net.JoinHostPort(c.to, "9"))
		check(t, err)
		defer conn.Close()
		hearAll(t, conn.(*net.UDPConn))
		_, _ = conn.Write([]byte("x"))
		check(t, conn.SetReadDeadline(time.Now().Add(time.Minute)))
		if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, c.want) {
			t.Errorf("%s by UDP: got %v, want %v", c.to, err, c.want)
		}
		if from := n.probe(t, c.to, 64, true, c.ping); from != c.from {
			t.Errorf("%s by ping: %q said so, not %s", c.to, from, c.from)
		}
	}
}

// A reset and the end of one direction cross either way.
func TestEndsCross(t *testing.T) {
	bothWays(t, func(t *testing.T, n *testNetwork) {
		pair := func() (inner, outer *net.TCPConn) {
			l, err := net.Listen("tcp4", nstest.HostIPv4+":0")
			check(t, err)
			defer l.Close()
			c, err := n.dial("tcp", l.Addr().String())
			check(t, err)
			h, err := l.Accept()
			check(t, err)
			for _, conn := range []net.Conn{c, h} {
				check(t, conn.SetDeadline(time.Now().Add(time.Minute)))
			}
			return c.(*net.TCPConn), h.(*net.TCPConn)
		}
		for _, fromHost := range []bool{false, true} {
			ends := func() (one, other *net.TCPConn) {
				one, other = pair()
				if fromHost {
					return other, one
				}
				return one, other
			}
			one, other := ends()
			check(t, one.CloseWrite())
			if _, err := other.Read(make([]byte, 1)); err != io.EOF {
				t.Errorf("from the host %v: the end became %v", fromHost, err)
			}
			_, err := other.Write([]byte("still"))
			check(t, err)
			check(t, other.Close())
			if b, err := io.ReadAll(one); err != nil || string(b) != "still" {
				t.Errorf("from the host %v: after its end %q came, %v", fromHost, b, err)
			}
			one.Close()

			one, other = ends()
			abortTCP(one)
			if _, err := other.Read(make([]byte, 1)); !errors.Is(err, unix.ECONNRESET) {
				t.Errorf("from the host %v: the reset became %v", fromHost, err)
			}
			other.Close()
		}
	})
}

// manyFlows are open at once.
const manyFlows = 2000

// TestManyFlows holds that idle connections cost little memory of the
// keeper's, and that they all still work.
func TestManyFlows(t *testing.T) {
	if testing.Short() {
		t.Skip("it opens thousands of connections")
	}
	bothWays(t, func(t *testing.T, n *testNetwork) {
		l, err := net.Listen("tcp4", nstest.HostIPv4+":0")
		check(t, err)
		defer l.Close()
		before := memory()
		inner, outer := make([]net.Conn, manyFlows), make([]net.Conn, 0, manyFlows)
		defer func() {
			for _, c := range append(inner, outer...) {
				if c != nil {
					abortTCP(c.(*net.TCPConn))
				}
			}
		}()
		var dials sync.WaitGroup
		for part := range 8 {
			dials.Go(func() {
				for i := part; i < manyFlows; i += 8 {
					var err error
					if inner[i], err = n.dial("tcp", l.Addr().String()); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		for len(outer) < manyFlows {
			check(t, l.(*net.TCPListener).SetDeadline(time.Now().Add(time.Minute)))
			c, err := l.Accept()
			check(t, err)
			outer = append(outer, c)
		}
		dials.Wait()
		each := (memory() - before) / manyFlows
		t.Logf("%d bytes for each connection, both its ends in the test included", each)
		if each > 40<<10 {
			t.Errorf("each connection costs %d bytes", each)
		}
		for _, c := range outer {
			_, err := c.Write([]byte{1})
			check(t, err)
		}
		for _, c := range inner {
			check(t, c.SetReadDeadline(time.Now().Add(time.Minute)))
			_, err := io.ReadFull(c, make([]byte, 1))
			check(t, err)
		}
	})
}

// memory is what the Go heap and the goroutines' stacks hold.
func memory() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}

// Packets that are too long for the network are cut or refused where they are
// sent, and nothing is lost.
func TestMTU(t *testing.T) {
	for _, mtu := range []int{1280, 9000} {
		for _, stackOnly := range []bool{false, true} {
			n := newNetworkMTU(t, EgressConfig{StackOnly: stackOnly}, mtu)
			for _, host := range []string{nstest.HostIPv4, nstest.HostIPv6} {
				echoTCP(t, n, host, 1<<20)
				echoUDP(t, n, host, mtu-48, mtu, 3*mtu)
			}
		}
	}
}

// What traceroute does: packets with few hops to go are answered by the routers
// on the way.
func TestHops(t *testing.T) {
	bothWays(t, func(t *testing.T, n *testNetwork) {
		for _, c := range []struct {
			to   string
			hops int
			from string
		}{
			{nstest.BehindIPv4, 1, gateway4.String()},
			{nstest.BehindIPv4, 2, nstest.RouterIPv4},
			{nstest.BehindIPv6, 1, gateway6.String()},
			{nstest.BehindIPv6, 2, nstest.RouterIPv6},
		} {
			for _, ping := range []bool{false, true} {
				exceeded := icmp.Type(ipv4.ICMPTypeTimeExceeded)
				if strings.Contains(c.to, ":") {
					exceeded = ipv6.ICMPTypeTimeExceeded
				}
				if from := n.probe(t, c.to, c.hops, ping, exceeded); from != c.from {
					t.Errorf("%s after %d hops (ping %v): %q answered, not %s", c.to, c.hops, ping, from, c.from)
				}
			}
		}
	})
}

// probe sends a packet with some hops to go from the container and returns who
// answered with a kind of ICMP message.
func (n *testNetwork) probe(t *testing.T, to string, hops int, ping bool, want icmp.Type) string {
	t.Helper()
	addr := netip.MustParseAddr(to)
	network, proto := "ip4:icmp", 1
	if addr.Is6() {
		network, proto = "ip6:ipv6-icmp", 58
	}
	var listen net.PacketConn
	var out net.Conn
	check(t, n.container.Do(func() (err error) {
		if listen, err = net.ListenPacket(network, ""); err != nil {
			return err
		}
		if ping {
			out, err = net.DialIP(network, nil, &net.IPAddr{IP: addr.AsSlice()})
		} else {
			out, err = net.DialUDP("udp", nil, &net.UDPAddr{IP: addr.AsSlice(), Port: 33434 + hops})
		}
		return err
	}))
	defer listen.Close()
	defer out.Close()
	payload := []byte("kelp")
	if ping {
		kind := icmp.Type(ipv4.ICMPTypeEcho)
		if addr.Is6() {
			kind = ipv6.ICMPTypeEchoRequest
		}
		var err error
		payload, err = (&icmp.Message{Type: kind, Body: &icmp.Echo{ID: 4711 + hops, Seq: hops, Data: payload}}).Marshal(nil)
		check(t, err)
	}
	if addr.Is6() {
		check(t, ipv6.NewConn(out).SetHopLimit(hops))
	} else {
		check(t, ipv4.NewConn(out).SetTTL(hops))
	}
	_, err := out.Write(payload)
	check(t, err)
	check(t, listen.SetReadDeadline(time.Now().Add(time.Minute)))
	buf := make([]byte, 1500)
	for {
		k, from, err := listen.ReadFrom(buf)
		if err != nil {
			return err.Error()
		}
		if m, err := icmp.ParseMessage(proto, buf[:k]); err == nil && m.Type == want {
			return from.String()
		}
	}
}
