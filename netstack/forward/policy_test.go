package forward

import (
	"net/netip"
	"testing"
)

func TestPolicy(t *testing.T) {
	asked, other := netip.MustParseAddr("172.17.0.2"), netip.MustParseAddr("172.17.0.3")
	p := policy{reachesHost: func(a netip.Addr) bool { return a == asked }}
	for _, c := range []struct {
		name      string
		container netip.Addr
		dst, want string // want "" is refused
	}{
		{"the internet", other, "192.0.2.1", "192.0.2.1"},
		{"the internet, IPv6", other, "2001:db8::1", "2001:db8::1"},
		{"a private network", other, "10.0.0.1", "10.0.0.1"},
		{"a cloud's metadata", other, "169.254.169.254", "169.254.169.254"},
		{"host gateway, asked for", asked, "169.254.255.254", "127.0.0.1"},
		{"host gateway by IPv6, asked for", asked, "fd6b:656c:7000::fffe", "::1"},
		{"host gateway, not asked for", other, "169.254.255.254", ""},
		{"loopback", asked, "127.0.0.1", ""},
		{"all of loopback", asked, "127.8.9.10", ""},
		{"loopback by IPv6", asked, "::1", ""},
		{"unspecified, which dials loopback", asked, "0.0.0.0", ""},
		{"unspecified by IPv6", asked, "::", ""},
		{"this network", asked, "0.0.0.1", ""},
		{"mapped loopback", asked, "::ffff:127.0.0.1", ""},
		{"compatible loopback", asked, "::127.0.0.1", ""},
		{"translated loopback", asked, "64:ff9b::7f00:1", ""},
		{"broadcast", asked, "255.255.255.255", ""},
		{"reserved", asked, "240.0.0.1", ""},
		{"multicast", asked, "224.0.0.1", ""},
		{"multicast by IPv6", asked, "ff02::1", ""},
		{"a link of the host", asked, "fe80::1", ""},
		{"the uplink", asked, "169.254.255.1", ""},
	} {
		got, ok := p.target(c.container, netip.MustParseAddr(c.dst))
		if ok != (c.want != "") || ok && got.String() != c.want {
			t.Errorf("%s: got %v, %v; want %q", c.name, got, ok, c.want)
		}
	}
}
