package forward

import "net/netip"

// HostGateway is where containers that asked for host-gateway find the host's
// loopback services. Only the stack knows the address.
var (
	HostGateway4 = netip.MustParseAddr("169.254.255.254")
	HostGateway6 = netip.MustParseAddr("fd6b:656c:7000::fffe")
)

var (
	thisNetwork4 = netip.MustParsePrefix("0.0.0.0/8")
	reserved4    = netip.MustParsePrefix("240.0.0.0/4")
	uplinkNet4   = netip.MustParsePrefix("169.254.255.0/24")
	// Addresses that carry an IPv4 address inside: a host may route them to
	// itself.
	translated6 = []netip.Prefix{
		netip.MustParsePrefix("::/96"),
		netip.MustParsePrefix("::ffff:0:0/96"),
		netip.MustParsePrefix("64:ff9b::/96"),
		netip.MustParsePrefix("64:ff9b:1::/48"),
	}
)

// policy decides what the host dials for a container.
type policy struct {
	reachesHost func(container netip.Addr) bool
}

// target returns what to dial on the host when container sends to dst, and
// whether it may. The host's loopback is out of reach by every name but
// HostGateway.
func (p policy) target(container, dst netip.Addr) (netip.Addr, bool) {
	switch {
	case dst == HostGateway4 || dst == HostGateway6:
		if p.reachesHost == nil || !p.reachesHost(container) {
			return netip.Addr{}, false
		}
		if dst.Is4() {
			return netip.AddrFrom4([4]byte{127, 0, 0, 1}), true
		}
		return netip.IPv6Loopback(), true
	case !dst.IsGlobalUnicast() && !(dst.Is4() && dst.IsLinkLocalUnicast()):
		return netip.Addr{}, false // loopback, multicast, broadcast, unspecified
	case dst.Is4():
		return dst, !thisNetwork4.Contains(dst) && !reserved4.Contains(dst) && !uplinkNet4.Contains(dst)
	}
	for _, p := range translated6 {
		if p.Contains(dst) {
			return netip.Addr{}, false
		}
	}
	return dst, true
}
