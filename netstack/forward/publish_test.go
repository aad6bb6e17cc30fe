package forward

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/kelp-engine/kelp/test/nstest"
	"golang.org/x/sys/unix"
)

func (n *testNetwork) target(a netip.AddrPort) Resolve {
	gw := gateway4
	if a.Addr().Is6() {
		gw = gateway6
	}
	t := Target{
		Bridge: n.bridge, Container: a, Gateway: gw,
		Subnets: []netip.Prefix{netip.PrefixFrom(gateway4, 16).Masked(), netip.PrefixFrom(gateway6, 64).Masked()},
	}
	return func() (Target, error) { return t, nil }
}

func publish(t testing.TB, proto, host string, to Resolve) netip.AddrPort {
	t.Helper()
	c, addr, err := Publish(proto, netip.MustParseAddrPort(host), to, slog.New(slog.DiscardHandler))
	check(t, err)
	t.Cleanup(func() { c.Close() })
	return addr
}

// The container answers each connection with the peer's address as it sees it.
func serveNames(t testing.TB, n *testNetwork) (tcp4, tcp6, udp4 netip.AddrPort) {
	t.Helper()
	listen := func(a netip.Addr) netip.AddrPort {
		l, err := n.container.Listen("tcp", net.TCPAddrFromAddrPort(netip.AddrPortFrom(a, 0)))
		check(t, err)
		t.Cleanup(func() { l.Close() })
		go nstest.Serve(l, func(c net.Conn) { fmt.Fprint(c, c.RemoteAddr()) })
		return l.Addr().(*net.TCPAddr).AddrPort()
	}
	pc, err := n.container.ListenPacket("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(container4, 0)))
	check(t, err)
	check(t, pc.SetReadBuffer(1<<20)) // for a datagram of each of many clients
	t.Cleanup(func() { pc.Close() })
	go func() {
		for {
			_, from, err := pc.ReadFrom(make([]byte, 1500))
			if err != nil {
				return
			}
			pc.WriteTo([]byte(from.String()), from)
		}
	}()
	return listen(container4), listen(container6), unmapped(pc.LocalAddr().(*net.UDPAddr).AddrPort())
}

func ask(t testing.TB, network, from string, to netip.AddrPort) (answer, self string) {
	t.Helper()
	d := net.Dialer{Timeout: time.Minute}
	if network[:3] == "tcp" {
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(from)}
	} else {
		d.LocalAddr = &net.UDPAddr{IP: net.ParseIP(from)}
	}
	c, err := d.Dial(network, to.String())
	check(t, err)
	defer c.Close()
	c.SetDeadline(time.Now().Add(time.Minute))
	if network[:3] == "udp" {
		c.Write([]byte("who am I"))
		buf := make([]byte, 100)
		n, err := c.Read(buf)
		check(t, err)
		return string(buf[:n]), c.LocalAddr().String()
	}
	b, err := io.ReadAll(c)
	check(t, err)
	return string(b), c.LocalAddr().String()
}

func TestPublishedPortKeepsTheClientsAddress(t *testing.T) {
	n := newNetwork(t, EgressConfig{})
	tcp4, tcp6, udp4 := serveNames(t, n)
	at4, at6 := netip.MustParseAddr(nstest.HostIPv4), netip.MustParseAddr(nstest.HostIPv6)
	web4 := publish(t, "tcp", "0.0.0.0:0", n.target(tcp4))
	web6 := publish(t, "tcp", "[::]:0", n.target(tcp6))
	web64 := publish(t, "tcp", "[::]:0", n.target(tcp4))
	name4 := publish(t, "udp", "0.0.0.0:0", n.target(udp4))

	for _, c := range []struct {
		network, from string
		to            netip.AddrPort
		seen          string // "" means the client's own address
	}{
		{"tcp4", nstest.HostIPv4, netip.AddrPortFrom(at4, web4.Port()), ""},
		{"tcp6", nstest.HostIPv6, netip.AddrPortFrom(at6, web6.Port()), ""},
		{"udp4", nstest.HostIPv4, netip.AddrPortFrom(at4, name4.Port()), ""},
		{"tcp4", "127.0.0.1", netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), web4.Port()), gateway4.String()},
		{"udp4", "127.0.0.1", netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), name4.Port()), gateway4.String()},
		{"tcp6", nstest.HostIPv6, netip.AddrPortFrom(at6, web64.Port()), gateway4.String()},
	} {
		got, self := ask(t, c.network, c.from, c.to)
		if c.seen == "" && got != self {
			t.Errorf("%s %s: the container saw %s, not %s", c.network, c.to, got, self)
		}
		if host, _, _ := net.SplitHostPort(got); c.seen != "" && host != c.seen {
			t.Errorf("%s %s: the container saw %s, not %s", c.network, c.to, got, c.seen)
		}
	}
}

func TestPublishedPortTaken(t *testing.T) {
	n := newNetwork(t, EgressConfig{})
	tcp4, _, udp4 := serveNames(t, n)
	for proto, target := range map[string]netip.AddrPort{"tcp": tcp4, "udp": udp4} {
		first := publish(t, proto, "0.0.0.0:0", n.target(target))
		_, _, err := Publish(proto, first, n.target(target), slog.New(slog.DiscardHandler))
		if !errors.Is(err, ErrPortTaken) || err.Error() != fmt.Sprintf("Bind for %s failed: port is already allocated", first) {
			t.Errorf("%s: %v", proto, err)
		}
	}
}

func TestPublishedPortOfADeafContainer(t *testing.T) {
	n := newNetwork(t, EgressConfig{})
	web := publish(t, "tcp", "127.0.0.1:0", n.target(netip.AddrPortFrom(container4, 9)))
	c, err := net.Dial("tcp", web.String())
	if errors.Is(err, unix.ECONNRESET) {
		return // it was reset before Dial looked
	}
	check(t, err)
	defer c.Close()
	c.SetDeadline(time.Now().Add(time.Minute))
	if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) {
		t.Fatalf("a refused connection ended with %v", err)
	}
}

func TestPublishedUDPAnswersEachOfManyClients(t *testing.T) {
	n := newNetwork(t, EgressConfig{})
	_, _, udp4 := serveNames(t, n)
	before := counted()
	t.Cleanup(func() {
		if left := counted() - before; left != 0 {
			t.Errorf("%d descriptors are counted that nobody has", left)
		}
	})
	at := netip.AddrPortFrom(netip.MustParseAddr(nstest.HostIPv4), publish(t, "udp", "0.0.0.0:0", n.target(udp4)).Port())
	clients := make([]*net.UDPConn, 100) // as many as a socket of ordinary buffers holds
	for i := range clients {
		c, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(at))
		check(t, err)
		defer c.Close()
		clients[i] = c
	}
	for range 2 {
		for _, c := range clients {
			_, err := c.Write([]byte("who am I"))
			check(t, err)
		}
		for _, c := range clients {
			buf := make([]byte, 100)
			c.SetReadDeadline(time.Now().Add(time.Minute))
			got, err := c.Read(buf)
			if check(t, err); string(buf[:got]) != c.LocalAddr().String() {
				t.Fatalf("%s was taken for %s", c.LocalAddr(), buf[:got])
			}
		}
	}
	if got := counted() - before; got != int64(len(clients)) {
		t.Errorf("%d clients hold %d descriptors", len(clients), got)
	}
}
