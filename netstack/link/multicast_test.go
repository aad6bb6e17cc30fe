package link

import (
	"encoding/binary"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// multicastQuery asks, as routers do, who wants multicasts. Nobody but the
// bridge sees it.
func multicastQuery() []byte {
	from := linkLocal(eveMAC)
	mld := slices.Concat([]byte{130, 0, 0, 0, 0, 1, 0, 0}, netip.IPv6Unspecified().AsSlice())
	sum := uint32(len(mld) + icmp)
	for part := range slices.Chunk(slices.Concat(from.AsSlice(), all6.AsSlice(), mld), 2) {
		sum += uint32(binary.BigEndian.Uint16(part))
	}
	sum = sum>>16 + sum&0xffff
	binary.BigEndian.PutUint16(mld[2:], ^uint16(sum>>16+sum))
	routerAlert := []byte{icmp, 0, 5, 2, 0, 0, 1, 0}
	f := ip6Frame(eveMAC, from, unix.IPPROTO_HOPOPTS, slices.Concat(routerAlert, mld))
	f[21] = 1                               // hop
	copy(f, []byte{0x33, 0x33, 1, 2, 3, 4}) // which no device listens to
	return f
}

// A container that plays the multicast router does not take others' multicasts
// from those who have not told it that they want them: neighbours could not
// find each other over IPv6.
func TestMulticastRouterTakesNothing(t *testing.T) {
	b, eve, bob := guardedBridge(t, false)
	ann, err := NewNamespace()
	check(t, err)
	defer ann.Close()
	check(t, b.AddPort(ann, Port{Name: "vann", Device: "eth0", MAC: net.HardwareAddr{2, 0x42, 0, 0, 0, 4}, Addresses: []netip.Prefix{netip.PrefixFrom(ann4, 24)}}))
	evil, out := packets(t, eve, "eth0"), packets(t, bob, "eth0")
	ins := map[string]int{"another container": packets(t, ann, "eth0"), "the network's stack": packets(t, b.Namespace, "br0")}

	solicitation := ip6Frame(bobMAC, bob6, icmp, icmp6(135, netip.MustParseAddr("fd09::99")))
	copy(solicitation, []byte{0x33, 0x33, 0xff, 0, 0, 0x99})
	copy(solicitation[38:], netip.MustParseAddr("ff02::1:ff00:99").AsSlice())
	marker := append(ip4Frame(bobMAC, bob4), "marker"...)
	for begun := time.Now(); time.Since(begun) < 200*time.Millisecond; { // a bridge believes it after a moment
		_, err := unix.Write(evil, multicastQuery())
		check(t, err)
		for _, f := range [][]byte{solicitation, marker} {
			_, err := unix.Write(out, f)
			check(t, err)
		}
		for who, fd := range ins {
			if !arrives(t, fd, solicitation, marker) {
				t.Fatalf("a solicitation did not arrive at %s", who)
			}
		}
	}
}
