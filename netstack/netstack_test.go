package netstack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/kelp-engine/kelp/netstack/dns"
	"github.com/kelp-engine/kelp/netstack/forward"
	"github.com/kelp-engine/kelp/netstack/link"
	"github.com/kelp-engine/kelp/test/nstest"
)

func TestMain(m *testing.M) { os.Exit(nstest.Main(m)) }

var quiet = slog.New(slog.DiscardHandler)

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// openNetwork makes the network 172.<n>.0.0/16 with fd00:<n>::/64.
func openNetwork(t testing.TB, name string, n int, change func(*NetworkConfig)) *Network {
	t.Helper()
	cfg := NetworkConfig{Name: name, Log: quiet, Subnets: []Subnet{
		{netip.MustParsePrefix(fmt.Sprintf("172.%d.0.0/16", n)), netip.MustParseAddr(fmt.Sprintf("172.%d.0.1", n))},
		{netip.MustParsePrefix(fmt.Sprintf("fd00:%d::/64", n)), netip.MustParseAddr(fmt.Sprintf("fd00:%d::1", n))},
	}}
	if change != nil {
		change(&cfg)
	}
	network, err := OpenNetwork(cfg)
	check(t, err)
	t.Cleanup(func() { check(t, network.Close()) })
	return network
}

func openSandbox(t testing.TB, cfg SandboxConfig) *Sandbox {
	t.Helper()
	cfg.Log = quiet
	if cfg.HostResolvers == nil {
		cfg.HostResolvers = &dns.HostResolvers{Path: "/dev/null"}
	}
	cfg.Resolver = true
	s, err := OpenSandbox(cfg)
	check(t, err)
	t.Cleanup(func() { check(t, s.Close()) })
	return s
}

var endpoints int

func connect(t testing.TB, s *Sandbox, n *Network, host int, names ...string) string {
	t.Helper()
	endpoints++
	e := Endpoint{ID: fmt.Sprintf("%012x", endpoints), Device: fmt.Sprintf("eth%d", len(s.Endpoints())), MAC: link.RandomMAC(), Names: names}
	for _, sub := range n.cfg.Subnets {
		a := sub.Prefix.Addr().AsSlice()
		a[len(a)-1] = byte(host)
		addr, _ := netip.AddrFromSlice(a)
		e.Addresses = append(e.Addresses, netip.PrefixFrom(addr, sub.Prefix.Bits()))
	}
	check(t, s.Connect(n, e))
	return e.ID
}

// resolve looks a name up as a process in the sandbox does.
func resolve(s *Sandbox, name string) ([]string, error) {
	r := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return s.dial(ctx, network, dns.Address)
	}}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	got, err := r.LookupHost(ctx, name)
	slices.Sort(got)
	return got, err
}

func dialFrom(s *Sandbox, to string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	return s.ns.DialTCP(ctx, link.Local{}, netip.MustParseAddrPort(to))
}

// serve answers every connection to an address of the sandbox with a word.
func serve(t testing.TB, s *Sandbox, addr, word string) {
	t.Helper()
	l, err := s.ns.Listen("tcp", net.TCPAddrFromAddrPort(netip.MustParseAddrPort(addr)))
	check(t, err)
	t.Cleanup(func() { l.Close() })
	go nstest.Serve(l, func(c net.Conn) { io.WriteString(c, word) })
}

func TestNamesOnANetwork(t *testing.T) {
	blue, red := openNetwork(t, "blue", 20, nil), openNetwork(t, "red", 21, nil)
	web, db := openSandbox(t, SandboxConfig{}), openSandbox(t, SandboxConfig{})
	connect(t, web, blue, 2, "web", "0123456789ab")
	id := connect(t, db, blue, 3, "db", "Storage")
	connect(t, db, red, 3, "red-db")

	for name, want := range map[string][]string{
		"db":           {"172.20.0.3", "fd00:20::3"},
		"storage":      {"172.20.0.3", "fd00:20::3"},
		"db.blue":      {"172.20.0.3", "fd00:20::3"},
		"web":          {"172.20.0.2", "fd00:20::2"},
		"0123456789ab": {"172.20.0.2", "fd00:20::2"},
	} {
		if got, err := resolve(web, name); !slices.Equal(got, want) {
			t.Errorf("%s is %v, %v", name, got, err)
		}
	}
	if got, err := resolve(web, "red-db"); err == nil {
		t.Errorf("a name of another network is %v", got)
	}
	db.Rename(id, []string{"store"})
	if got, _ := resolve(web, "store"); len(got) != 2 {
		t.Error("the new name is unknown")
	}
	if got, err := resolve(web, "storage"); err == nil {
		t.Errorf("the old name is %v", got)
	}
}

func TestContainerMayServeDNS(t *testing.T) {
	n := openNetwork(t, "blue", 20, nil)
	s := openSandbox(t, SandboxConfig{})
	connect(t, s, n, 2, "web")
	pc, err := s.ns.ListenPacket("udp4", &net.UDPAddr{Port: 53})
	check(t, err)
	defer pc.Close()
	l, err := s.ns.Listen("tcp4", &net.TCPAddr{Port: 53})
	check(t, err)
	defer l.Close()
	if got, err := resolve(s, "web"); len(got) != 2 {
		t.Errorf("web is %v, %v", got, err)
	}
}

func BenchmarkSandbox(b *testing.B) {
	n := openNetwork(b, "blue", 20, nil)
	for b.Loop() {
		s, err := OpenSandbox(SandboxConfig{Resolver: true, Log: quiet, HostResolvers: &dns.HostResolvers{Path: "/dev/null"}})
		check(b, err)
		connect(b, s, n, 2, "a")
		check(b, s.Close())
	}
}

func TestHostsResolversAreAsked(t *testing.T) {
	conf := filepath.Join(t.TempDir(), "resolv.conf")
	check(t, os.WriteFile(conf, []byte("nameserver 127.0.0.1\n"), 0o644))
	n := openNetwork(t, "blue", 20, nil)
	s := openSandbox(t, SandboxConfig{HostResolvers: &dns.HostResolvers{Path: conf}})
	connect(t, s, n, 2)
	if _, err := resolve(s, "example.com"); err == nil || !strings.Contains(err.Error(), "server misbehaving") {
		t.Errorf("without a resolver on the host: %v", err)
	}
}

func TestNetworksAreApart(t *testing.T) {
	blue, red := openNetwork(t, "blue", 20, nil), openNetwork(t, "red", 21, nil)
	a, b, c := openSandbox(t, SandboxConfig{}), openSandbox(t, SandboxConfig{}), openSandbox(t, SandboxConfig{})
	connect(t, a, blue, 2)
	connect(t, b, red, 2)
	connect(t, c, blue, 3)
	serve(t, b, "172.21.0.2:80", "b")
	serve(t, c, "172.20.0.3:80", "c")
	conn, err := dialFrom(a, "172.20.0.3:80")
	check(t, err)
	conn.Close()
	if _, err := dialFrom(a, "172.21.0.2:80"); err == nil {
		t.Error("a container reached another network's")
	}
	if _, err := dialFrom(a, "172.21.0.1:80"); err == nil {
		t.Error("a container reached another network's gateway")
	}
}

func TestTwoNetworksMayHaveTheSameSubnet(t *testing.T) {
	blue, red := openNetwork(t, "blue", 20, nil), openNetwork(t, "red", 20, nil)
	for n, word := range map[*Network]string{blue: "blue", red: "red"} {
		server, client := openSandbox(t, SandboxConfig{}), openSandbox(t, SandboxConfig{})
		connect(t, server, n, 2)
		connect(t, client, n, 3)
		serve(t, server, "172.20.0.2:80", word)
		c, err := dialFrom(client, "172.20.0.2:80")
		check(t, err)
		if got, _ := io.ReadAll(c); string(got) != word {
			t.Errorf("on %s the server is %s's", word, got)
		}
	}
}

func TestInternalNetworkLeadsNowhere(t *testing.T) {
	n := openNetwork(t, "inside", 20, func(c *NetworkConfig) { c.Internal = true })
	s := openSandbox(t, SandboxConfig{})
	connect(t, s, n, 2)
	if _, err := dialFrom(s, nstest.HostIPv4+":80"); err == nil || !strings.Contains(err.Error(), "unreachable") {
		t.Errorf("an internal network's container got %v", err)
	}
	bound, err := s.Publish([]Port{{Proto: "tcp", ContainerPort: 80}})
	if err != nil || len(bound) != 0 {
		t.Errorf("an internal network published %v, %v", bound, err)
	}
}

func TestPublishedPortFollowsTheContainer(t *testing.T) {
	blue, red := openNetwork(t, "blue", 20, nil), openNetwork(t, "red", 21, nil)
	s := openSandbox(t, SandboxConfig{})
	first := connect(t, s, blue, 2)
	serve(t, s, "0.0.0.0:80", "hello")
	bound, err := s.Publish([]Port{{Proto: "tcp", ContainerPort: 80}})
	check(t, err)
	if len(bound) != 2 || bound[0].HostPort == 0 || bound[0].HostPort != bound[1].HostPort {
		t.Fatalf("bound %+v", bound)
	}
	get := func() string {
		c, err := net.Dial("tcp", net.JoinHostPort(nstest.HostIPv4, strconv.Itoa(int(bound[0].HostPort))))
		check(t, err)
		defer c.Close()
		c.SetDeadline(time.Now().Add(time.Minute))
		b, _ := io.ReadAll(c)
		return string(b)
	}
	if got := get(); got != "hello" {
		t.Fatalf("got %q", got)
	}
	connect(t, s, red, 2)
	check(t, s.Disconnect(first))
	if got := get(); got != "hello" {
		t.Fatalf("on the other network got %q", got)
	}
}

func TestPublishAllOrNothing(t *testing.T) {
	n := openNetwork(t, "blue", 20, nil)
	s := openSandbox(t, SandboxConfig{})
	connect(t, s, n, 2)
	l, err := net.Listen("tcp4", "0.0.0.0:0")
	check(t, err)
	defer l.Close()
	taken := uint16(l.Addr().(*net.TCPAddr).Port)
	free := taken - 1
	_, err = s.Publish([]Port{{Proto: "udp", HostPort: free, ContainerPort: 80}, {Proto: "tcp", HostPort: taken, ContainerPort: 80}})
	if !errors.Is(err, forward.ErrPortTaken) {
		t.Fatalf("got %v", err)
	}
	_, err = s.Publish([]Port{{Proto: "udp", HostPort: free, ContainerPort: 80}})
	check(t, err)
	bound, err := s.Publish([]Port{{Proto: "tcp", HostPort: taken, HostPortEnd: taken + 5, ContainerPort: 80}})
	if err != nil || bound[0].HostPort <= taken {
		t.Fatalf("of a range with its first port taken got %+v, %v", bound, err)
	}
}

// What grows with each round of work leaks. More threads for work at the same
// time, with descriptors of their own, may stay of one round, but not of each.
func TestNothingLeaks(t *testing.T) {
	const cycles, rounds = 10, 4
	count := func() (descriptors, goroutines int) {
		runtime.GC()
		fds, _ := os.ReadDir("/proc/self/fd")
		return len(fds), runtime.NumGoroutine()
	}
	cycle := func() {
		n, err := OpenNetwork(NetworkConfig{Name: "n", Log: quiet, Subnets: []Subnet{{netip.MustParsePrefix("172.20.0.0/16"), netip.MustParseAddr("172.20.0.1")}}})
		check(t, err)
		s, err := OpenSandbox(SandboxConfig{Resolver: true, Log: quiet, HostResolvers: &dns.HostResolvers{Path: "/dev/null"}})
		check(t, err)
		connect(t, s, n, 2, "a")
		_, err = s.Publish([]Port{{Proto: "tcp", ContainerPort: 80}, {Proto: "udp", ContainerPort: 80}})
		check(t, err)
		_, _ = dialFrom(s, nstest.HostIPv4+":9")
		check(t, s.Close())
		check(t, n.Close())
	}
	for range 3 {
		cycle() // threads and the like that stay
	}
	for range rounds {
		descriptors, goroutines := count()
		for range cycles {
			cycle()
		}
		for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
			if d, g := count(); d <= descriptors && g <= goroutines {
				return
			}
		}
		d, g := count()
		t.Logf("%d descriptors and %d goroutines before, %d and %d after", descriptors, goroutines, d, g)
	}
	t.Error("each round of work leaves more")
}
