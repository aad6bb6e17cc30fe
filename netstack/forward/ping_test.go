package forward

import (
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/kelp-engine/kelp/test/nstest"
	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"
)

// ping sends an echo request from the container and returns the answer.
func (n *testNetwork) ping(t *testing.T, host string, data string) *icmp.Message {
	t.Helper()
	network, proto, kind := "ip4:icmp", 1, icmp.Type(ipv4.ICMPTypeEcho)
	if netip.MustParseAddr(host).Is6() {
		network, proto, kind = "ip6:ipv6-icmp", 58, ipv6.ICMPTypeEchoRequest
	}
	var c *net.IPConn
	check(t, n.container.Do(func() (err error) {
		c, err = net.DialIP(network, nil, &net.IPAddr{IP: net.ParseIP(host)})
		return err
	}))
	defer c.Close()
	msg := icmp.Message{Type: kind, Body: &icmp.Echo{ID: 4711, Seq: 3, Data: []byte(data)}}
	b, err := msg.Marshal(nil)
	check(t, err)
	if proto == 58 {
		// The kernel fills in the checksum of ICMPv6 sockets.
		b[2], b[3] = 0, 0
	}
	_, err = c.Write(b)
	check(t, err)
	c.SetReadDeadline(time.Now().Add(5 * time.Second))
	buf := make([]byte, 64<<10)
	k, _, err := c.ReadFrom(buf) // without the IP header
	if errors.Is(err, unix.EHOSTUNREACH) || errors.Is(err, unix.EACCES) {
		k, _, err = c.ReadFrom(buf) // the message behind the error
	}
	check(t, err)
	got, err := icmp.ParseMessage(proto, buf[:k])
	check(t, err)
	return got
}

func TestPing(t *testing.T) {
	n := newNetwork(t, EgressConfig{})
	for host, want := range map[string]icmp.Type{
		nstest.HostIPv4: ipv4.ICMPTypeEchoReply,
		nstest.HostIPv6: ipv6.ICMPTypeEchoReply,
	} {
		for _, size := range []int{4, 1452, 1473, 4000, 60000} { // the link takes 1500 bytes
			data := strings.Repeat("kelp", size)[:size]
			m := n.ping(t, host, data)
			echo, _ := m.Body.(*icmp.Echo)
			if m.Type != want || echo.ID != 4711 || echo.Seq != 3 || string(echo.Data) != data {
				t.Errorf("%s answered %d bytes with %v", host, size, m.Type)
			}
		}
	}
	if m := n.ping(t, "203.0.113.1", "kelp"); m.Type != ipv4.ICMPTypeDestinationUnreachable {
		t.Errorf("an unreachable host answered %v", m.Type)
	}
}
