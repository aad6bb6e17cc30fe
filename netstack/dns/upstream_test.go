package dns

import (
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// answering serves one code on UDP, or with a negative one nothing.
func answering(t *testing.T, code int) netip.AddrPort {
	t.Helper()
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	go func() {
		buf := make([]byte, 4096)
		for {
			n, from, err := c.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			if q, err := parseQuery(buf[:n], false); err == nil && code >= 0 {
				c.WriteToUDPAddrPort(q.reply(dnsmessage.RCode(code), nil), from)
			}
		}
	}()
	return c.LocalAddr().(*net.UDPAddr).AddrPort()
}

func TestABetterResolverIsAsked(t *testing.T) {
	good := start(t, zone{"example.com": {netip.MustParseAddr("192.0.2.80")}}, nil)
	for name, c := range map[string]struct {
		servers []netip.AddrPort
		want    dnsmessage.RCode
	}{
		"the first is silent":          {[]netip.AddrPort{answering(t, -1), good}, dnsmessage.RCodeSuccess},
		"two are silent":               {[]netip.AddrPort{answering(t, -1), answering(t, -1), good}, dnsmessage.RCodeSuccess},
		"the first fails":              {[]netip.AddrPort{answering(t, int(dnsmessage.RCodeServerFailure)), good}, dnsmessage.RCodeSuccess},
		"the first refuses":            {[]netip.AddrPort{answering(t, int(dnsmessage.RCodeRefused)), good}, dnsmessage.RCodeSuccess},
		"no such name is an answer":    {[]netip.AddrPort{answering(t, int(dnsmessage.RCodeNameError)), good}, dnsmessage.RCodeNameError},
		"all fail":                     {[]netip.AddrPort{answering(t, int(dnsmessage.RCodeRefused))}, dnsmessage.RCodeRefused},
		"one fails, another is silent": {[]netip.AddrPort{answering(t, int(dnsmessage.RCodeRefused)), answering(t, -1)}, dnsmessage.RCodeRefused},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u := &Upstream{Servers: Fixed(c.servers...), Dial: DialHost}
			if c.want == dnsmessage.RCodeSuccess {
				u.limit = time.Minute
			}
			begin := time.Now()
			b, err := u.Forward(t.Context(), message(t, "example.com.", dnsmessage.TypeA), false)
			if err != nil {
				t.Fatal(err)
			}
			var m dnsmessage.Message
			if err := m.Unpack(b); err != nil || m.RCode != c.want {
				t.Errorf("%v, %v", m.RCode, err)
			}
			if took := time.Since(begin); u.limit > 0 && took >= u.limit {
				t.Errorf("it took %s: the silent one was waited for", took)
			}
		})
	}
}

func TestManyReplicas(t *testing.T) {
	z := zone{}
	for i := range 100 {
		z["many"] = append(z["many"], netip.MustParseAddr(fmt.Sprintf("172.18.1.%d", i+1)))
	}
	at := start(t, z, nil)
	plain := message(t, "many.", dnsmessage.TypeA)
	var withEDNS dnsmessage.Message
	if err := withEDNS.Unpack(plain); err != nil {
		t.Fatal(err)
	}
	var h dnsmessage.ResourceHeader
	if err := h.SetEDNS0(4096, 0, false); err != nil {
		t.Fatal(err)
	}
	withEDNS.Additionals = []dnsmessage.Resource{{Header: h, Body: &dnsmessage.OPTResource{}}}
	large, err := withEDNS.Pack()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name      string
		query     []byte
		tcp       bool
		truncated bool
		least     int
	}{
		{"plain UDP", plain, false, true, 20},
		{"UDP with EDNS", large, false, false, 100},
		{"TCP", plain, true, false, 100},
	} {
		u := &Upstream{Servers: Fixed(at), Dial: DialHost}
		b, err := u.Forward(t.Context(), c.query, c.tcp)
		if err != nil {
			t.Fatal(err)
		}
		var m dnsmessage.Message
		if err := m.Unpack(b); err != nil {
			t.Fatal(err)
		}
		if m.Truncated != c.truncated || len(m.Answers) < c.least || c.truncated && len(b) > 512 {
			t.Errorf("%s: truncated %v, %d answers, %d bytes", c.name, m.Truncated, len(m.Answers), len(b))
		}
		if (len(m.Additionals) == 1) != (c.name == "UDP with EDNS") {
			t.Errorf("%s: %d additional records", c.name, len(m.Additionals))
		}
	}
}

func FuzzResolvConf(f *testing.F) {
	f.Add([]byte("nameserver 127.0.0.53\nsearch a.example b.example\noptions edns0 ndots:2\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		first := ParseResolvConf(b).Format()
		if again := ParseResolvConf(first).Format(); string(again) != string(first) {
			t.Fatalf("%q became %q", first, again)
		}
	})
}
