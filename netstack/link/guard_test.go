package link

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/kelp-engine/kelp/test/nstest"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { os.Exit(nstest.Main(m)) }

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

var (
	eveMAC  = net.HardwareAddr{2, 0x42, 0, 0, 0, 2}
	bobMAC  = net.HardwareAddr{2, 0x42, 0, 0, 0, 3}
	eve4    = netip.MustParseAddr("10.9.0.2")
	bob4    = netip.MustParseAddr("10.9.0.3")
	ann4    = netip.MustParseAddr("10.9.0.4")
	eve6    = netip.MustParseAddr("fd09::2")
	bob6    = netip.MustParseAddr("fd09::3")
	extra4  = netip.MustParseAddr("169.254.7.7")
	nobody4 = netip.IPv4Unspecified()
	nobody6 = netip.IPv6Unspecified()
	all6    = netip.MustParseAddr("ff02::1")
)

// ether is a frame to the everybody address of its network.
func ether(from net.HardwareAddr, kind uint16, body []byte) []byte {
	f := append(bytes.Repeat([]byte{0xff}, 6), from...)
	return append(binary.BigEndian.AppendUint16(f, kind), body...)
}

// tagged puts VLAN tags for the priority alone around a frame.
func tagged(f []byte, tags int) []byte {
	for range tags {
		f = slices.Concat(f[:12], []byte{0x81, 0, 0, 0}, f[12:])
	}
	return f
}

func ip4Frame(mac net.HardwareAddr, from netip.Addr) []byte {
	b := []byte{0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0}
	b = append(b, from.AsSlice()...)
	b = append(b, 255, 255, 255, 255)
	return ether(mac, unix.ETH_P_IP, append(b, make([]byte, 8)...))
}

func arpFrame(mac, sender net.HardwareAddr, op byte, from netip.Addr) []byte {
	b := []byte{0, 1, 8, 0, 6, 4, 0, op}
	b = append(append(b, sender...), from.AsSlice()...)
	b = append(append(b, make([]byte, 6)...), ann4.AsSlice()...)
	return ether(mac, unix.ETH_P_ARP, b)
}

func ip6Frame(mac net.HardwareAddr, from netip.Addr, next byte, body []byte) []byte {
	b := []byte{0x60, 0, 0, 0, 0, byte(len(body)), next, 255}
	b = append(append(b, from.AsSlice()...), all6.AsSlice()...)
	return ether(mac, unix.ETH_P_IPV6, append(b, body...))
}

func icmp6(kind byte, target netip.Addr) []byte {
	return append([]byte{kind, 0, 0, 0, 0, 0, 0, 0}, target.AsSlice()...)
}

// behindOptions puts an empty destination options header before a payload.
func behindOptions(next byte, b []byte) []byte {
	return append([]byte{next, 0, 1, 4, 0, 0, 0, 0}, b...)
}

const (
	icmp    = unix.IPPROTO_ICMPV6
	udp     = unix.IPPROTO_UDP
	options = unix.IPPROTO_DSTOPTS
)

var guardTests = []struct {
	name  string
	frame []byte
	pass  bool
}{
	{"own IPv4", ip4Frame(eveMAC, eve4), true},
	{"own second IPv4", ip4Frame(eveMAC, extra4), true},
	{"own IPv4 with a priority", tagged(ip4Frame(eveMAC, eve4), 1), true},
	{"IPv4 of nobody, as DHCP has it", ip4Frame(eveMAC, nobody4), true},
	{"Bob's IPv4", ip4Frame(eveMAC, bob4), false},
	{"Bob's IPv4 with a priority", tagged(ip4Frame(eveMAC, bob4), 1), false},
	{"Bob's IPv4 behind two tags", tagged(ip4Frame(eveMAC, bob4), 2), false},
	{"IPv4 of the gateway", ip4Frame(eveMAC, netip.MustParseAddr("10.9.0.1")), false},
	{"IPv4 from elsewhere", ip4Frame(eveMAC, netip.MustParseAddr("8.8.8.8")), false},
	{"Bob's MAC", ip4Frame(bobMAC, eve4), false},
	{"Bob's MAC and IPv4", ip4Frame(bobMAC, bob4), false},
	{"a random MAC", ip4Frame(net.HardwareAddr{2, 1, 1, 1, 1, 1}, eve4), false},
	{"truncated IPv4", ether(eveMAC, unix.ETH_P_IP, []byte{0x45, 0, 0}), false},
	{"own ARP request", arpFrame(eveMAC, eveMAC, 1, eve4), true},
	{"own ARP reply", arpFrame(eveMAC, eveMAC, 2, eve4), true},
	{"ARP probe", arpFrame(eveMAC, eveMAC, 1, nobody4), true},
	{"ARP request as Bob", arpFrame(eveMAC, eveMAC, 1, bob4), false},
	{"ARP reply as Bob", arpFrame(eveMAC, eveMAC, 2, bob4), false},
	{"ARP reply that gives Eve's address away", arpFrame(eveMAC, bobMAC, 2, eve4), false},
	{"ARP reply with Bob's MAC outside", arpFrame(bobMAC, eveMAC, 2, eve4), false},
	{"ARP of another kind", ether(eveMAC, unix.ETH_P_ARP, slices.Concat([]byte{0, 6, 8, 0, 6, 4, 0, 2}, eveMAC, eve4.AsSlice(), make([]byte, 10))), false},
	{"own IPv6", ip6Frame(eveMAC, eve6, udp, make([]byte, 8)), true},
	{"own link-local IPv6", ip6Frame(eveMAC, linkLocal(eveMAC), udp, make([]byte, 8)), true},
	{"IPv6 of nobody", ip6Frame(eveMAC, nobody6, icmp, icmp6(135, eve6)), true},
	{"Bob's IPv6", ip6Frame(eveMAC, bob6, udp, make([]byte, 8)), false},
	{"Bob's link-local IPv6", ip6Frame(eveMAC, linkLocal(bobMAC), udp, make([]byte, 8)), false},
	{"IPv6 with Bob's MAC", ip6Frame(bobMAC, eve6, udp, make([]byte, 8)), false},
	{"solicitation", ip6Frame(eveMAC, eve6, icmp, icmp6(135, bob6)), true},
	{"own advertisement", ip6Frame(eveMAC, eve6, icmp, icmp6(136, eve6)), true},
	{"advertisement of Bob's address", ip6Frame(eveMAC, eve6, icmp, icmp6(136, bob6)), false},
	{"the same behind options", ip6Frame(eveMAC, eve6, options, behindOptions(icmp, icmp6(136, bob6))), false},
	{"own advertisement behind options", ip6Frame(eveMAC, eve6, options, behindOptions(icmp, icmp6(136, eve6))), true},
	{"truncated advertisement", ip6Frame(eveMAC, eve6, icmp, icmp6(136, bob6)[:12]), true},
	{"router advertisement", ip6Frame(eveMAC, linkLocal(eveMAC), icmp, icmp6(134, eve6)), false},
	{"redirect", ip6Frame(eveMAC, linkLocal(eveMAC), icmp, icmp6(137, eve6)), false},
	{"another protocol", ether(eveMAC, 0x88cc, make([]byte, 46)), false},
}

// packets opens a packet socket on a device of a namespace.
func packets(t testing.TB, ns *Namespace, device string) int {
	t.Helper()
	fd := -1
	check(t, ns.Do(func() error {
		dev, err := net.InterfaceByName(device)
		if err != nil {
			return err
		}
		if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(htons(unix.ETH_P_ALL))); err != nil {
			return err
		}
		return unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: htons(unix.ETH_P_ALL), Ifindex: dev.Index})
	}))
	t.Cleanup(func() { unix.Close(fd) })
	check(t, unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 50_000}))
	return fd
}

func htons(v uint16) uint16 { return v<<8 | v>>8 }

// arrives says whether a frame comes to a packet socket; marker follows it.
func arrives(t testing.TB, fd int, frame, marker []byte) bool {
	t.Helper()
	found, buf := false, make([]byte, 2048)
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
		n, err := unix.Read(fd, buf)
		if err != nil {
			continue
		}
		switch got := buf[:n]; {
		case bytes.Equal(got, marker):
			return found
		// A tag is kept beside the frame.
		case len(frame) >= 40 && len(got) >= 28 && bytes.HasSuffix(frame, got[14:]), bytes.Equal(got, frame):
			found = true
		}
	}
	t.Fatal("not even the marker arrived")
	return false
}

func guardedBridge(t testing.TB, anySource bool) (b *Bridge, eve, bob *Namespace) {
	t.Helper()
	b, err := NewBridge(BridgeConfig{
		Name: "br0", MTU: 1500, AnySource: anySource,
		Gateways: []netip.Prefix{netip.MustParsePrefix("10.9.0.1/24"), netip.MustParsePrefix("fd09::1/64")},
	})
	check(t, err)
	t.Cleanup(func() { b.Close() })
	check(t, b.GuardErr)
	join := func(name string, mac net.HardwareAddr, addrs ...netip.Addr) *Namespace {
		ns, err := NewNamespace()
		check(t, err)
		t.Cleanup(func() { ns.Close() })
		p := Port{Name: name, Device: "eth0", MAC: mac}
		for _, a := range addrs {
			p.Addresses = append(p.Addresses, netip.PrefixFrom(a, map[bool]int{true: 24, false: 64}[a.Is4()]))
		}
		check(t, b.AddPort(ns, p))
		return ns
	}
	return b, join("veve", eveMAC, eve4, extra4, eve6), join("vbob", bobMAC, bob4, bob6)
}

func TestForeignAddressesDoNotCross(t *testing.T) {
	b, eve, bob := guardedBridge(t, false)
	out := packets(t, eve, "eth0")
	ins := map[string]int{"another container": packets(t, bob, "eth0"), "the network's stack": packets(t, b.Namespace, "br0")}
	marker := ip4Frame(eveMAC, eve4)
	marker = append(marker, "marker"...)
	for _, tt := range guardTests {
		for _, f := range [][]byte{tt.frame, marker} {
			_, err := unix.Write(out, f)
			check(t, err)
		}
		for who, fd := range ins {
			if got := arrives(t, fd, tt.frame, marker); got != tt.pass {
				t.Errorf("%s: arrived at %s: %v", tt.name, who, got)
			}
		}
	}
}

func TestAnySourceCrossesWhereItMay(t *testing.T) {
	_, eve, bob := guardedBridge(t, true)
	out, in := packets(t, eve, "eth0"), packets(t, bob, "eth0")
	marker := append(ip4Frame(eveMAC, eve4), "marker"...)
	foreign := ip4Frame(eveMAC, netip.MustParseAddr("10.244.1.7"))
	for _, f := range [][]byte{foreign, marker} {
		_, err := unix.Write(out, f)
		check(t, err)
	}
	if !arrives(t, in, foreign, marker) {
		t.Error("a foreign address did not cross")
	}
}

// A port's powers end with it, and the next one's are its own.
func TestGuardForgets(t *testing.T) {
	b, eve, _ := guardedBridge(t, false)
	check(t, b.MutePort("veve"))
	eve.Close()
	for i := range 3 {
		ns, err := NewNamespace()
		check(t, err)
		defer ns.Close()
		check(t, b.AddPort(ns, Port{Name: "vnext", Device: "eth0", MAC: eveMAC, Addresses: []netip.Prefix{netip.PrefixFrom(eve4, 24)}}))
		if i < 2 {
			check(t, b.RemovePort("vnext"))
		}
	}
	check(t, b.guard.ns.Do(func() error {
		c, err := nftables.New()
		if err != nil {
			return err
		}
		left, err := c.GetSetElements(b.guard.own4)
		if len(left) != 4 { // Bob's and the last port's, each with none at all
			t.Errorf("%d addresses are allowed, not 4", len(left))
		}
		return err
	}))
}

func BenchmarkGuardedPort(b *testing.B) {
	for name, any := range map[string]bool{"guarded": false, "open": true} {
		b.Run(name, func(b *testing.B) {
			br, _, _ := guardedBridge(b, any)
			for b.Loop() {
				ns, err := NewNamespace()
				check(b, err)
				check(b, br.AddPort(ns, Port{Name: "vnext", Device: "eth0", MAC: net.HardwareAddr{2, 9, 9, 9, 9, 9}, Addresses: []netip.Prefix{netip.MustParsePrefix("10.9.0.77/24")}}))
				check(b, br.MutePort("vnext"))
				ns.Close()
				b.StopTimer()
				check(b, br.RemovePort("vnext"))
				b.StartTimer()
			}
		})
	}
}
