package forward

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kelp-engine/kelp/netstack/link"
	"github.com/kelp-engine/kelp/test/nstest"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { os.Exit(nstest.Main(m)) }

var (
	gateway4   = netip.MustParseAddr("172.17.0.1")
	container4 = netip.MustParseAddr("172.17.0.2")
	gateway6   = netip.MustParseAddr("fd00:17::1")
	container6 = netip.MustParseAddr("fd00:17::2")
)

// network is a bridge with a way out and one container's namespace on it.
type testNetwork struct {
	bridge    *link.Bridge
	container *link.Namespace
	egress    *Egress
}

func newNetwork(t testing.TB, cfg EgressConfig) *testNetwork {
	t.Helper()
	return newNetworkMTU(t, cfg, 1500)
}

func newNetworkMTU(t testing.TB, cfg EgressConfig, mtu int) *testNetwork {
	t.Helper()
	bridge, err := link.NewBridge(link.BridgeConfig{
		Name: "br0", MTU: mtu,
		Gateways: []netip.Prefix{netip.PrefixFrom(gateway4, 16), netip.PrefixFrom(gateway6, 64)},
	})
	check(t, err)
	check(t, bridge.TransparentErr)
	ns, err := link.NewNamespace()
	check(t, err)
	check(t, ns.LoopbackUp())
	check(t, bridge.AddPort(ns, link.Port{
		Name: "v1", Device: "eth0", MAC: link.RandomMAC(),
		Addresses: []netip.Prefix{netip.PrefixFrom(container4, 16), netip.PrefixFrom(container6, 64)},
	}))
	check(t, ns.SetDefaultRoute("eth0", gateway4))
	check(t, ns.SetDefaultRoute("eth0", gateway6))
	uplink, err := bridge.AddUplink()
	check(t, err)
	cfg.Bridge, cfg.Uplink, cfg.IPv6 = bridge, uplink, true
	cfg.Log = slog.New(slog.NewTextHandler(testWriter{t}, &slog.HandlerOptions{Level: slog.LevelDebug}))
	e, err := NewEgress(cfg)
	check(t, err)
	t.Cleanup(func() {
		e.Close()
		check(t, uplink.Close())
		check(t, ns.Close())
		check(t, bridge.Close())
	})
	return &testNetwork{bridge, ns, e}
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(b []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(b)))
	return len(b), nil
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// dial connects from the container.
func (n *testNetwork) dial(network, addr string) (c net.Conn, err error) {
	err = n.container.Do(func() error {
		d := net.Dialer{Timeout: time.Minute}
		c, err = d.Dial(network, addr)
		return err
	})
	return c, err
}

// bothWays runs a test with the kernel carrying connections and with the stack.
func bothWays(t *testing.T, f func(t *testing.T, n *testNetwork)) {
	for name, stackOnly := range map[string]bool{"kernel": false, "stack": true} {
		t.Run(name, func(t *testing.T) { f(t, newNetwork(t, EgressConfig{StackOnly: stackOnly})) })
	}
}

func TestTCPOut(t *testing.T) {
	bothWays(t, func(t *testing.T, n *testNetwork) {
		for _, host := range []string{nstest.HostIPv4, nstest.HostIPv6} {
			echoTCP(t, n, host, 5<<20)
		}
	})
}

// echoTCP sends bytes to a host that sends them back after the half-close.
func echoTCP(t *testing.T, n *testNetwork, host string, size int) {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	check(t, err)
	defer l.Close()
	data := make([]byte, size)
	rand.Read(data)
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		got, _ := io.ReadAll(c)
		c.Write(got)
	}()
	c, err := n.dial("tcp", l.Addr().String())
	check(t, err)
	defer c.Close()
	check(t, c.SetDeadline(time.Now().Add(time.Minute)))
	go func() {
		c.Write(data)
		c.(*net.TCPConn).CloseWrite()
	}()
	got, err := io.ReadAll(c)
	check(t, err)
	if !bytes.Equal(got, data) {
		t.Fatalf("%s: %d bytes came back changed, of %d", host, len(got), len(data))
	}
}

// A port that a container uses again within a minute may meet the socket of the
// old connection, which lingers because the host closed first.
func TestTCPSamePortAgain(t *testing.T) {
	bothWays(t, func(t *testing.T, n *testNetwork) {
		for _, host := range []string{nstest.HostIPv4, nstest.HostIPv6} {
			l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
			check(t, err)
			defer l.Close()
			go func() {
				for {
					c, err := l.Accept()
					if err != nil {
						return
					}
					c.Close()
				}
			}()
			var from net.Addr
			for i := range 3 {
				var c net.Conn
				err := n.container.Do(func() (err error) {
					d := net.Dialer{Timeout: time.Minute, LocalAddr: from}
					c, err = d.Dial("tcp", l.Addr().String())
					return err
				})
				if err != nil {
					t.Fatalf("%s, connection %d: %v", host, i, err)
				}
				c.SetReadDeadline(time.Now().Add(time.Minute))
				if _, err := c.Read(make([]byte, 1)); err != io.EOF {
					t.Fatalf("%s, connection %d: instead of its end came %v", host, i, err)
				}
				from = c.LocalAddr()
				c.Close()
				time.Sleep(50 * time.Millisecond) // the last acknowledgement is on its way
			}
		}
	})
}

func TestHostLoopbackOnlyWhenAsked(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	check(t, err)
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	n := newNetwork(t, EgressConfig{ReachesHost: func(a netip.Addr) bool { return a == container4 }})
	c, err := n.dial("tcp", net.JoinHostPort(HostGateway4.String(), port))
	check(t, err)
	c.Close()
	if _, err := n.dial("tcp", net.JoinHostPort(gateway4.String(), port)); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("the gateway answered %v", err)
	}
}

func TestUDPOut(t *testing.T) {
	bothWays(t, func(t *testing.T, n *testNetwork) {
		for _, host := range []string{nstest.HostIPv4, nstest.HostIPv6} {
			echoUDP(t, n, host, 1, 100, 1400, 9000, 60000)
		}
	})
}

// echoUDP sends datagrams to a host that sends them back.
func echoUDP(t *testing.T, n *testNetwork, host string, sizes ...int) {
	t.Helper()
	c, err := n.dial("udp", echoDatagrams(t, net.JoinHostPort(host, "0")).String())
	check(t, err)
	defer c.Close()
	for _, size := range sizes {
		data := make([]byte, size)
		rand.Read(data)
		_, err := c.Write(data)
		check(t, err)
		c.SetReadDeadline(time.Now().Add(time.Minute))
		buf := make([]byte, maxDatagram)
		k, err := c.Read(buf)
		if err != nil || !bytes.Equal(buf[:k], data) {
			t.Fatalf("%s: %d bytes of a datagram of %d came back: %v", host, k, size, err)
		}
	}
}

// echoDatagrams has the host send back what comes to an address, which it
// returns, until the test has ended.
func echoDatagrams(t *testing.T, at string) net.Addr {
	t.Helper()
	pc, err := net.ListenPacket("udp", at)
	check(t, err)
	t.Cleanup(func() { pc.Close() })
	go func() {
		buf := make([]byte, maxDatagram)
		for {
			n, from, err := pc.ReadFrom(buf)
			if err != nil {
				return
			}
			pc.WriteTo(buf[:n], from)
		}
	}()
	return pc.LocalAddr()
}

// echoStream is echoDatagrams for TCP.
func echoStream(t *testing.T, at string) net.Addr {
	t.Helper()
	l, err := net.Listen("tcp", at)
	check(t, err)
	t.Cleanup(func() { l.Close() })
	go nstest.Serve(l, func(c net.Conn) { _, _ = io.Copy(c, c) })
	return l.Addr()
}

// What runs in the network's own namespace, as under `kelp ns`, gets out too.
func TestOutFromTheBridge(t *testing.T) {
	n := newNetwork(t, EgressConfig{})
	at := nstest.HostIPv4 + ":0"
	for network, addr := range map[string]string{"tcp": echoStream(t, at).String(), "udp": echoDatagrams(t, at).String()} {
		var c net.Conn
		check(t, n.bridge.Do(func() (err error) {
			c, err = net.DialTimeout(network, addr, time.Minute)
			return err
		}))
		defer c.Close()
		c.SetDeadline(time.Now().Add(time.Minute))
		_, err := c.Write([]byte("kelp"))
		check(t, err)
		buf := make([]byte, 4)
		if _, err := io.ReadFull(c, buf); err != nil || string(buf) != "kelp" {
			t.Errorf("%s: %q came back: %v", network, buf, err)
		}
	}
}

func reusePort(_, _ string, c syscall.RawConn) (err error) {
	ctl := c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1) })
	return errors.Join(ctl, err)
}
