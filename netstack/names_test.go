package netstack

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"

	"github.com/kelp-engine/kelp/netstack/dns"
)

// records are what a resolver of the tests knows.
type records map[string][]netip.Addr

func (r records) Lookup(name string) ([]netip.Addr, bool) { a, ok := r[name]; return a, ok }

func (records) Reverse(netip.Addr) (string, bool) { return "", false }

// hundred is a name whose answer does not fit into 512 bytes.
func hundred(third int) (all []netip.Addr) {
	for i := range 100 {
		all = append(all, netip.AddrFrom4([4]byte{192, 0, byte(third), byte(i + 1)}))
	}
	return all
}

// hostResolver serves records at an address of the host.
func hostResolver(t *testing.T, addr string, r records) {
	t.Helper()
	at := netip.AddrPortFrom(netip.MustParseAddr(addr), 53)
	udp, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(at))
	check(t, err)
	tcp, err := net.ListenTCP("tcp4", net.TCPAddrFromAddrPort(at))
	check(t, err)
	t.Cleanup(dns.Serve(udp, tcp, r, nil, quiet).Close)
}

func TestHostsResolversOnLoopback(t *testing.T) {
	hostResolver(t, "127.0.0.53", records{"example.com": {netip.MustParseAddr("192.0.2.1")}, "many.example": hundred(2)})
	hostResolver(t, "127.0.0.54", records{"example.com": {netip.MustParseAddr("192.0.2.2")}})
	silent, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 55), Port: 53})
	check(t, err)
	defer silent.Close()

	conf := filepath.Join(t.TempDir(), "resolv.conf")
	write := func(servers ...string) {
		check(t, os.WriteFile(conf, []byte("nameserver "+strings.Join(servers, "\nnameserver ")+"\n"), 0o644))
	}
	write("127.0.0.53")
	n := openNetwork(t, "blue", 20, nil)
	s := openSandbox(t, SandboxConfig{HostResolvers: &dns.HostResolvers{Path: conf}})
	connect(t, s, n, 2, "web")
	if got, err := resolve(s, "example.com"); !slices.Equal(got, []string{"192.0.2.1"}) {
		t.Fatalf("example.com is %v, %v", got, err)
	}
	if got, err := resolve(s, "many.example"); len(got) != 100 { // by TCP
		t.Errorf("%d addresses came, %v", len(got), err)
	}
	if _, err := resolve(s, "other.example"); err == nil || !strings.Contains(err.Error(), "server misbehaving") {
		t.Errorf("a failure became %v", err)
	}
	// The file changes; a resolver that says nothing and one that is not there
	// come first.
	write("127.0.0.55", "127.0.0.56", "127.0.0.54")
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		got, err := resolve(s, "example.com")
		if slices.Equal(got, []string{"192.0.2.2"}) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("after the change example.com is %v, %v", got, err)
		}
	}
	check(t, os.WriteFile(conf, nil, 0o644))
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		_, err := resolve(s, "example.com")
		if err != nil && strings.Contains(err.Error(), "server misbehaving") { // an answer, no silence
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("without a resolver: %v", err)
		}
	}
	if got, _ := resolve(s, "web"); len(got) != 2 {
		t.Errorf("without a resolver web is %v", got)
	}
}

// A resolver that is told to ask itself asks the host's.
func TestResolverThatNamesItself(t *testing.T) {
	hostResolver(t, "127.0.0.57", records{"example.com": {netip.MustParseAddr("192.0.2.1")}})
	conf := filepath.Join(t.TempDir(), "resolv.conf")
	check(t, os.WriteFile(conf, []byte("nameserver 127.0.0.57\n"), 0o644))
	n := openNetwork(t, "blue", 20, nil)
	s := openSandbox(t, SandboxConfig{HostResolvers: &dns.HostResolvers{Path: conf}, Servers: []netip.Addr{dns.Address.Addr()}})
	connect(t, s, n, 2, "web")
	if got, err := resolve(s, "example.com"); !slices.Equal(got, []string{"192.0.2.1"}) {
		t.Errorf("example.com is %v, %v", got, err)
	}
}

// The resolvers that a container names are asked from inside its network, and
// its queries and their answers pass as they are.
func TestOwnResolvers(t *testing.T) {
	n := openNetwork(t, "blue", 20, func(c *NetworkConfig) { c.Internal = true })
	server := openSandbox(t, SandboxConfig{})
	connect(t, server, n, 9)
	for _, ip := range []string{"172.20.0.9", "fd00:20::9"} {
		at := netip.AddrPortFrom(netip.MustParseAddr(ip), 53)
		udp, err := server.ns.ListenPacket("udp", net.UDPAddrFromAddrPort(at))
		check(t, err)
		tcp, err := server.ns.Listen("tcp", net.TCPAddrFromAddrPort(at))
		check(t, err)
		t.Cleanup(dns.Serve(udp, tcp, records{"own.example": hundred(3)}, nil, quiet).Close)

		client := openSandbox(t, SandboxConfig{Servers: []netip.Addr{at.Addr()}})
		connect(t, client, n, 2)
		if got, err := resolve(client, "own.example"); len(got) != 100 {
			t.Errorf("%s: %d addresses came, %v", ip, len(got), err)
		}
		if m := askWithEDNS(t, client, "own.example."); m.Truncated || len(m.Answers) != 100 || len(m.Additionals) != 1 {
			t.Errorf("%s: with EDNS %d answers, truncated %v, %d additional", ip, len(m.Answers), m.Truncated, len(m.Additionals))
		}
	}
}

// askWithEDNS asks for large answers by UDP.
func askWithEDNS(t *testing.T, s *Sandbox, name string) (m dnsmessage.Message) {
	t.Helper()
	var h dnsmessage.ResourceHeader
	check(t, h.SetEDNS0(4096, 0, false))
	q := dnsmessage.Message{
		Header:      dnsmessage.Header{ID: 4711, RecursionDesired: true},
		Questions:   []dnsmessage.Question{{Name: dnsmessage.MustNewName(name), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}},
		Additionals: []dnsmessage.Resource{{Header: h, Body: &dnsmessage.OPTResource{}}},
	}
	b, err := q.Pack()
	check(t, err)
	c, err := s.dial(t.Context(), "udp", dns.Address)
	check(t, err)
	defer c.Close()
	_, err = c.Write(b)
	check(t, err)
	check(t, c.SetReadDeadline(time.Now().Add(time.Minute)))
	buf := make([]byte, 65535)
	k, err := c.Read(buf)
	check(t, err)
	check(t, m.Unpack(buf[:k]))
	return m
}

func TestReverseAndReplicas(t *testing.T) {
	n := openNetwork(t, "blue", 20, nil)
	a := openSandbox(t, SandboxConfig{})
	connect(t, a, n, 2, "web", "pool")
	for i := range 4 {
		connect(t, openSandbox(t, SandboxConfig{}), n, 3+i, fmt.Sprint("replica", i), "pool")
	}
	r := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return a.dial(ctx, network, dns.Address)
	}}
	for _, ip := range []string{"172.20.0.2", "fd00:20::2"} {
		if got, err := r.LookupAddr(t.Context(), ip); !slices.Equal(got, []string{"web.blue."}) {
			t.Errorf("%s is %v, %v", ip, got, err)
		}
	}
	first := map[string]bool{}
	for range 100 {
		got, err := r.LookupNetIP(t.Context(), "ip4", "pool")
		check(t, err)
		if len(got) != 5 {
			t.Fatalf("pool is %v", got)
		}
		first[got[0].String()] = true
	}
	if len(first) < 4 {
		t.Errorf("of five replicas only %v come first", first)
	}
}

// A stream of nonsense does not keep the resolver from answering.
func TestResolverOutlivesNonsense(t *testing.T) {
	n := openNetwork(t, "blue", 20, nil)
	s := openSandbox(t, SandboxConfig{})
	connect(t, s, n, 2, "web")
	udp, err := s.dial(t.Context(), "udp", dns.Address)
	check(t, err)
	defer udp.Close()
	for i := range 2000 {
		_, _ = udp.Write(bytes.Repeat([]byte{byte(i)}, i%600))
	}
	for range 20 { // more than there may be streams
		tcp, err := s.dial(t.Context(), "tcp", dns.Address)
		check(t, err)
		defer tcp.Close()
		_, _ = tcp.Write(binary.BigEndian.AppendUint16(nil, 60000))
	}
	if got, err := resolve(s, "web"); len(got) != 2 {
		t.Errorf("web is %v, %v", got, err)
	}
}

// A container whose queries nobody answers does not use up the open files of
// all.
func TestFloodOfQueriesLeavesOpenFiles(t *testing.T) {
	silent, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 58), Port: 53})
	check(t, err)
	defer silent.Close()
	conf := filepath.Join(t.TempDir(), "resolv.conf")
	check(t, os.WriteFile(conf, []byte("nameserver 127.0.0.58\n"), 0o644))
	n := openNetwork(t, "blue", 20, nil)
	s := openSandbox(t, SandboxConfig{HostResolvers: &dns.HostResolvers{Path: conf}})
	connect(t, s, n, 2, "web")
	open := func() int {
		all, err := os.ReadDir("/proc/self/fd")
		check(t, err)
		return len(all)
	}
	var before unix.Rlimit
	check(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &before))
	check(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 400, Max: before.Max})) // half of three quarters is 150
	defer unix.Setrlimit(unix.RLIMIT_NOFILE, &before)
	idle := open()
	ctx, cancel := context.WithCancel(t.Context())
	var queries sync.WaitGroup
	refused := make(chan error, 200)
	for range cap(refused) {
		queries.Go(func() {
			_, err := forwarder{s}.Forward(ctx, make([]byte, 12), false)
			refused <- err
		})
	}
	for range cap(refused) - 150 {
		if err := <-refused; !errors.Is(err, unix.ENFILE) {
			t.Errorf("a query too many: %v", err)
		}
	}
	if n := open() - idle; n > 160 {
		t.Errorf("they hold %d open files", n)
	}
	cancel()
	queries.Wait()
	if n := open() - idle; n > 10 {
		t.Errorf("%d open files are left", n)
	}
}
