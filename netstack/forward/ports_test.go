package forward

import (
	"errors"
	"fmt"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kelp-engine/kelp/test/nstest"
)

const (
	portRange = "net/ipv4/ip_local_port_range" // of which the host gives sockets that ask for any
	ports     = 16
)

// A container is told at once that the host has no port left for it, and gets
// one when there are some again. Nothing is left of the attempts.
func TestHostIsOutOfPorts(t *testing.T) {
	first := 40000
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
				remote := c.serve(t, net.JoinHostPort(nstest.HostIPv4, "0")).String()
				nstest.SetHost(t, portRange, fmt.Sprint(first, first+ports-1))
				first += 100 // nobody else has had them
				var open []net.Conn
				for range ports + 1 {
					conn, err := n.exchange(t, c.network, remote)
					if err != nil {
						if !errors.Is(err, c.want) {
							t.Errorf("%s, exchange %d: got %v, want %v", remote, len(open), err, c.want)
						}
						break
					}
					defer conn.Close()
					open = append(open, conn)
				}
				if len(open) == 0 || len(open) > ports {
					t.Fatalf("%s: %d exchanges with %d ports", remote, len(open), ports)
				}
				nstest.SetHost(t, portRange, "41000 42000")
				if _, err := n.exchange(t, c.network, remote); err != nil {
					t.Errorf("%s, with ports: %v", remote, err)
				}
			})
			if after := counted(); after != before {
				t.Errorf("%d descriptors are counted that nobody has", after-before)
			}
		})
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
		if took := time.Since(begun); took > 50*time.Second {
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
