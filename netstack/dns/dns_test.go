package dns

import (
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

type zone map[string][]netip.Addr

func (z zone) Lookup(name string) ([]netip.Addr, bool) {
	a, ok := z[name]
	return a, ok
}

func (z zone) Reverse(addr netip.Addr) (string, bool) {
	for name, addrs := range z {
		if slices.Contains(addrs, addr) {
			return name + ".mynet", true
		}
	}
	return "", false
}

var testZone = zone{
	"db":  {netip.MustParseAddr("172.18.0.2"), netip.MustParseAddr("fd00::2")},
	"web": {netip.MustParseAddr("172.18.0.3"), netip.MustParseAddr("172.18.0.4")},
}

// start serves the test zone on free ports, and returns its address.
func start(t testing.TB, z Zone, f Forwarder) netip.AddrPort {
	t.Helper()
	udp, tcp := listenBoth(t)
	addr := udp.LocalAddr().(*net.UDPAddr).AddrPort()
	s := Serve(udp, tcp, z, f, slog.New(slog.DiscardHandler))
	t.Cleanup(s.Close)
	return addr
}

// listenBoth takes a port that is free for both protocols.
func listenBoth(t testing.TB) (*net.UDPConn, *net.TCPListener) {
	t.Helper()
	for {
		udp, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			t.Fatal(err)
		}
		tcp, err := net.ListenTCP("tcp4", net.TCPAddrFromAddrPort(udp.LocalAddr().(*net.UDPAddr).AddrPort()))
		if err == nil {
			return udp, tcp
		}
		udp.Close()
		if !errors.Is(err, syscall.EADDRINUSE) {
			t.Fatal(err)
		}
	}
}

func message(t testing.TB, name string, kind dnsmessage.Type) []byte {
	t.Helper()
	m := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: 77, RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName(name), Type: kind, Class: dnsmessage.ClassINET}},
	}
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func lookUp(t testing.TB, server netip.AddrPort, tcp bool, name string, kind dnsmessage.Type) dnsmessage.Message {
	t.Helper()
	u := &Upstream{Servers: Fixed(server), Dial: DialHost}
	b, err := u.Forward(t.Context(), message(t, name, kind), tcp)
	if err != nil {
		t.Fatal(err)
	}
	var m dnsmessage.Message
	if err := m.Unpack(b); err != nil {
		t.Fatal(err)
	}
	if m.ID != 77 || !m.Response {
		t.Fatalf("answer %+v", m.Header)
	}
	return m
}

func bodies(m dnsmessage.Message) (s []string) {
	for _, a := range m.Answers {
		switch r := a.Body.(type) {
		case *dnsmessage.AResource:
			s = append(s, netip.AddrFrom4(r.A).String())
		case *dnsmessage.AAAAResource:
			s = append(s, netip.AddrFrom16(r.AAAA).String())
		case *dnsmessage.PTRResource:
			s = append(s, r.PTR.String())
		}
	}
	slices.Sort(s)
	return s
}

func TestZoneAndForwarding(t *testing.T) {
	far := start(t, zone{"example.com": {netip.MustParseAddr("192.0.2.80")}}, nil)
	near := start(t, testZone, &Upstream{Servers: Fixed(far), Dial: DialHost})
	for _, c := range []struct {
		name string
		kind dnsmessage.Type
		code dnsmessage.RCode
		want []string
	}{
		{"db.", dnsmessage.TypeA, dnsmessage.RCodeSuccess, []string{"172.18.0.2"}},
		{"DB.", dnsmessage.TypeAAAA, dnsmessage.RCodeSuccess, []string{"fd00::2"}},
		{"web.", dnsmessage.TypeA, dnsmessage.RCodeSuccess, []string{"172.18.0.3", "172.18.0.4"}},
		{"web.", dnsmessage.TypeAAAA, dnsmessage.RCodeSuccess, nil},
		{"2.0.18.172.in-addr.arpa.", dnsmessage.TypePTR, dnsmessage.RCodeSuccess, []string{"db.mynet."}},
		{"2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa.", dnsmessage.TypePTR, dnsmessage.RCodeSuccess, []string{"db.mynet."}},
		{"example.com.", dnsmessage.TypeA, dnsmessage.RCodeSuccess, []string{"192.0.2.80"}},
		{"other.example.", dnsmessage.TypeA, dnsmessage.RCodeServerFailure, nil},
	} {
		for _, tcp := range []bool{false, true} {
			m := lookUp(t, near, tcp, c.name, c.kind)
			if got := bodies(m); m.RCode != c.code || !slices.Equal(got, c.want) {
				t.Errorf("%s %v: %v %v, want %v %v", c.name, c.kind, m.RCode, got, c.code, c.want)
			}
		}
	}
}

func TestNextResolverIsAskedWhenOneRefuses(t *testing.T) {
	far := start(t, zone{"example.com": {netip.MustParseAddr("192.0.2.80")}}, nil)
	u := &Upstream{Servers: Fixed(netip.MustParseAddrPort("127.0.0.1:9"), far), Dial: DialHost}
	if _, err := u.Forward(t.Context(), message(t, "example.com.", dnsmessage.TypeA), false); err != nil {
		t.Fatal(err)
	}
}

func TestForgedAnswersAreLeftOut(t *testing.T) {
	liar, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer liar.Close()
	go func() {
		buf := make([]byte, 512)
		n, from, _ := liar.ReadFromUDPAddrPort(buf)
		q, _ := parseQuery(buf[:n], false)
		wrong := q
		wrong.id++
		liar.WriteToUDPAddrPort(wrong.reply(dnsmessage.RCodeSuccess, nil), from)
		other := message(t, "other.example.", dnsmessage.TypeA)
		binary.BigEndian.PutUint16(other, q.id)
		other[2] |= 0x80
		liar.WriteToUDPAddrPort(other, from)
		liar.WriteToUDPAddrPort(q.reply(dnsmessage.RCodeNameError, nil), from)
	}()
	m := lookUp(t, liar.LocalAddr().(*net.UDPAddr).AddrPort(), false, "example.com.", dnsmessage.TypeA)
	if m.RCode != dnsmessage.RCodeNameError {
		t.Fatalf("took the answer %v", m.RCode)
	}
}

func TestHostResolversFollowTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "resolv.conf")
	write := func(s string) {
		if err := os.WriteFile(path, []byte(s), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	h := &HostResolvers{Path: path}
	write("nameserver 127.0.0.53\n")
	if got := h.Servers(); len(got) != 1 || got[0].String() != "127.0.0.53:53" {
		t.Fatal(got)
	}
	write("# changed\nsearch example.com\nnameserver 192.0.2.1\nnameserver fe80::1%eth0\nnameserver bad\n")
	h.mu.Lock()
	h.checked = time.Time{}
	h.mu.Unlock()
	if got := h.Servers(); len(got) != 2 || got[1].String() != "[fe80::1%eth0]:53" {
		t.Fatal(got)
	}
}

type failing struct{}

func (failing) Forward(context.Context, []byte, bool) ([]byte, error) { return nil, net.ErrClosed }

func FuzzAnswer(f *testing.F) {
	f.Add(message(f, "db.", dnsmessage.TypeA))
	f.Add(message(f, "2.0.18.172.in-addr.arpa.", dnsmessage.TypePTR))
	f.Add([]byte{0, 1, 2})
	s := &Server{zone: testZone, forward: failing{}, log: slog.New(slog.DiscardHandler)}
	f.Fuzz(func(t *testing.T, b []byte) {
		answer := s.answer(t.Context(), b, false)
		if answer == nil {
			return
		}
		var m dnsmessage.Message
		if err := m.Unpack(answer); err != nil || !m.Response || len(b) < 2 || m.ID != binary.BigEndian.Uint16(b) {
			t.Fatalf("bad answer %+v: %v", m, err)
		}
	})
}

func FuzzAnswers(f *testing.F) {
	q := message(f, "db.", dnsmessage.TypeA)
	f.Add(q)
	f.Fuzz(func(t *testing.T, b []byte) { answers(b, q) })
}
