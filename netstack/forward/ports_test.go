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

	"golang.org/x/sys/unix"

	"github.com/kelp-engine/kelp/test/nstest"
)

const (
	portRange = "net/ipv4/ip_local_port_range" // of which the host gives sockets that ask for any
	ports     = 16
)

// nextPorts are ports that no connection has had yet: one that has ended keeps
// its port for a minute from others with the same remote.
var nextPorts = 10000

// A container is told at once that the host has no port left for it, and gets
// one when there are some again. Nothing is left of the attempts.
func TestHostIsOutOfPorts(t *testing.T) {
	for _, c := range []struct {
		network string
		want    error
		serve   func(t *testing.T, at string) net.Addr
	}{
		{"tcp", unix.ENETUNREACH, echoStream},
		{"udp", unix.EHOSTUNREACH, echoDatagrams},
	} {
		t.Run(c.network, func(t *testing.T) {
			before := counted()
			bothWays(t, func(t *testing.T, n *testNetwork) {
				for _, host := range []string{nstest.HostIPv4, nstest.HostIPv6} {
					n.useUpPorts(t, c.network, c.serve(t, net.JoinHostPort(host, "0")).String(), c.want)
				}
			})
			if after := counted(); after != before {
				t.Errorf("%d descriptors are counted that nobody has", after-before)
			}
		})
	}
}

// useUpPorts exchanges words with a remote until the host has no port left, and
// once more when it has some again. want is what the container is told.
func (n *testNetwork) useUpPorts(t *testing.T, network, remote string, want error) {
	t.Helper()
	nstest.SetHost(t, portRange, fmt.Sprint(nextPorts, nextPorts+ports-1))
	nextPorts += ports
	var open int
	for ; open <= ports; open++ {
		if _, err := n.exchange(t, network, remote); err != nil {
			if !errors.Is(err, want) {
				t.Errorf("%s, exchange %d: got %v, want %v", remote, open, err, want)
			}
			break
		}
	}
	if open == 0 || open > ports {
		t.Fatalf("%s: %d exchanges with %d ports", remote, open, ports)
	}
	nstest.SetHost(t, portRange, "41000 42000")
	if _, err := n.exchange(t, network, remote); err != nil {
		t.Errorf("%s, with ports: %v", remote, err)
	}
}

// counted is how many descriptors flows are thought to have.
func counted() int64 {
	descriptors.mu.Lock()
	defer descriptors.mu.Unlock()
	return descriptors.used
}

// exchange sends a word from a port of the container that must come back soon.
func (n *testNetwork) exchange(t *testing.T, network, to string) (net.Conn, error) {
	t.Helper()
	begun := time.Now()
	defer func() {
		if took := time.Since(begun); took > 50*time.Second { // without any it is given up after a minute
			t.Errorf("%s: the answer took %s", to, took)
		}
	}()
	c, err := n.dial(network, to)
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { c.Close() })
	if u, ok := c.(*net.UDPConn); ok {
		hearAll(t, u)
	}
	check(t, c.SetDeadline(time.Now().Add(time.Minute)))
	if _, err := c.Write([]byte("kelp")); err != nil {
		return nil, err
	}
	_, err = c.Read(make([]byte, 4))
	return c, err
}

// A port of the host from which a container's connection leaves, or has left,
// can still be published.
func TestPortsOfConnectionsCanBePublished(t *testing.T) {
	bothWays(t, func(t *testing.T, n *testNetwork) {
		for _, host := range []string{nstest.HostIPv4, nstest.HostIPv6} {
			l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
			check(t, err)
			defer l.Close()
			c, err := n.dial("tcp", l.Addr().String())
			check(t, err)
			defer c.Close()
			server, err := l.Accept()
			check(t, err)
			defer server.Close()
			from := server.RemoteAddr().(*net.TCPAddr).AddrPort()
			to := n.target(netip.AddrPortFrom(container4, 80))
			open, _, err := Publish("tcp", from, to, slog.New(slog.DiscardHandler))
			check(t, err)
			check(t, open.Close())
			c.Close() // it closes first, so the host's end lingers
			server.SetReadDeadline(time.Now().Add(time.Minute))
			if _, err := server.Read(make([]byte, 1)); err != io.EOF {
				t.Fatal(err)
			}
			server.Close()
			publish(t, "tcp", from.String(), to)
		}
	})
}

// So can one from which a container's datagrams leave: what it sends then goes
// from another, and what comes to the port is the new owner's.
func TestPortsOfDatagramsCanBePublished(t *testing.T) {
	bothWays(t, func(t *testing.T, n *testNetwork) {
		for _, host := range []string{nstest.HostIPv4, nstest.HostIPv6} {
			remote, err := net.ListenPacket("udp", net.JoinHostPort(host, "0"))
			check(t, err)
			defer remote.Close()
			c, err := n.dial("udp", remote.LocalAddr().String())
			check(t, err)
			defer c.Close()
			cameFrom := func() netip.AddrPort {
				_, err := c.Write([]byte("kelp"))
				check(t, err)
				check(t, remote.SetReadDeadline(time.Now().Add(time.Minute)))
				_, from, err := remote.ReadFrom(make([]byte, 4))
				check(t, err)
				return from.(*net.UDPAddr).AddrPort()
			}
			from := cameFrom()
			published := publish(t, "udp", from.String(), n.target(netip.AddrPortFrom(container4, 53)))
			if published != from {
				t.Errorf("published %s instead of %s", published, from)
			}
			if again := cameFrom(); again == from {
				t.Errorf("datagrams still leave from %s", again)
			}
		}
	})
}
