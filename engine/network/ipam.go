package network

import (
	"crypto/rand"
	"maps"
	"math"
	"net/netip"
	"slices"

	"github.com/moby/moby/api/types/network"
	"github.com/vishvananda/netlink"

	"github.com/kelp-engine/kelp/engine/fault"
)

// Pool is a range that is cut into subnets of Size bits.
type Pool struct {
	Base netip.Prefix `json:"base"`
	Size int          `json:"size"`
}

// DefaultPools are the ranges of Docker's, of which the last of 172.16.0.0/12
// are cut into more: there is room for 541 networks instead of 31.
func DefaultPools() []Pool {
	pools := make([]Pool, 0, 16)
	for second := byte(17); second <= 29; second++ {
		pools = append(pools, Pool{netip.PrefixFrom(netip.AddrFrom4([4]byte{172, second, 0, 0}), 16), 16})
	}
	return append(pools, Pool{netip.MustParsePrefix("192.168.0.0/16"), 20}, Pool{netip.MustParsePrefix("172.30.0.0/15"), 24})
}

// freeSubnet returns a subnet of a family that no network and no route of the
// host has a part of: containers could not reach the host's side of it.
//
// Preconditions: m.mu is held, or m is not shared yet.
func (m *table) freeSubnet(ipv6 bool) (netip.Prefix, error) {
	var used []netip.Prefix
	for _, r := range m.networks {
		for _, c := range r.IPAM.Config {
			used = append(used, c.Subnet)
		}
	}
	used = append(used, hostRoutes()...)
	pools := slices.DeleteFunc(slices.Clone(m.o.Defaults.Pools), func(p Pool) bool { return p.Base.Addr().Is6() != ipv6 })
	if len(pools) == 0 {
		if ipv6 {
			return uniqueLocal(), nil
		}
		pools = DefaultPools()
	}
	for _, p := range pools {
		if s, ok := p.free(used); ok {
			return s, nil
		}
	}
	return netip.Prefix{}, fault.Internal("all predefined address pools have been fully subnetted").
		WithHint("remove networks with 'docker network prune', name a --subnet, or give more in default-address-pools of kelp's configuration file")
}

// free returns the pool's first subnet that overlaps none of those used.
func (p Pool) free(used []netip.Prefix) (netip.Prefix, bool) {
	for s := netip.PrefixFrom(p.Base.Addr(), p.Size); p.Base.Contains(s.Addr()); {
		i := slices.IndexFunc(used, s.Overlaps)
		if i < 0 {
			return s, true
		}
		next := last(s) // that of the larger one, which may fill the pool
		if used[i].Bits() < s.Bits() {
			next = last(used[i])
		}
		s = netip.PrefixFrom(next.Next(), p.Size)
	}
	return netip.Prefix{}, false
}

// last returns the highest address of a subnet.
func last(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().AsSlice()
	for bit := p.Bits(); bit < len(b)*8; bit++ {
		b[bit/8] |= 1 << (7 - bit%8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// hostRoutes are the networks that the host has routes to, its default routes
// apart. A host that cannot tell has none.
func hostRoutes() []netip.Prefix {
	routes, err := netlink.RouteList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return nil
	}
	var all []netip.Prefix
	for _, r := range routes {
		if r.Dst == nil {
			continue
		}
		a, ok := netip.AddrFromSlice(r.Dst.IP)
		if bits, _ := r.Dst.Mask.Size(); ok && bits > 0 {
			all = append(all, netip.PrefixFrom(a.Unmap(), bits))
		}
	}
	return all
}

// uniqueLocal returns a random subnet for local use (RFC 4193).
func uniqueLocal() netip.Prefix {
	var b [16]byte
	rand.Read(b[1:6])
	b[0] = 0xfd
	return netip.PrefixFrom(netip.AddrFrom16(b), 64)
}

// allocate chooses an address of a subnet for a container: want when it is
// valid, else the one that the container had before, else the lowest that no
// container has or had, else the lowest that none has now.
func (p *pool) allocate(r *Record, c network.IPAMConfig, want netip.Addr, who *Container) (netip.Prefix, error) {
	if want.IsValid() {
		if !c.Subnet.Contains(want) {
			return netip.Prefix{}, notOn(r, want)
		}
		if reserved(c, want) || p.leases[r.ID][want].live {
			return netip.Prefix{}, fault.PermissionDenied("Address already in use")
		}
		return netip.PrefixFrom(want, c.Subnet.Bits()), nil
	}
	unclaimed := func(l lease) bool { return l == lease{} || l == lease{container: who.ID} }
	for _, a := range who.Addresses[r.ID] {
		if within(c).Contains(a) && !reserved(c, a) && unclaimed(p.leases[r.ID][a]) {
			return netip.PrefixFrom(a, c.Subnet.Bits()), nil
		}
	}
	for _, usable := range []func(lease) bool{unclaimed, func(l lease) bool { return !l.live }} {
		for a := within(c).Masked().Addr(); a.IsValid() && within(c).Contains(a); a = a.Next() {
			if !reserved(c, a) && usable(p.leases[r.ID][a]) {
				return netip.PrefixFrom(a, c.Subnet.Bits()), nil
			}
		}
	}
	family := "IPv4"
	if c.Subnet.Addr().Is6() {
		family = "IPv6"
	}
	return netip.Prefix{}, fault.Internal("no available %s addresses on this network's address pools: %s (%s)", family, r.Name, r.ID)
}

// status counts the addresses of a network.
//
// Preconditions: m.mu is held.
func (m *table) status(r *Record) *network.Status {
	subnets := network.SubnetStatuses{}
	for _, c := range r.IPAM.Config {
		used := map[netip.Addr]bool{}
		for _, a := range append(slices.Collect(maps.Values(c.AuxAddress)), c.Subnet.Masked().Addr(), c.Gateway) {
			used[a] = a.IsValid()
		}
		if c.Subnet.Addr().Is4() {
			used[last(c.Subnet)] = true
		}
		for a, l := range m.leases[r.ID] {
			if l.live && c.Subnet.Contains(a) {
				used[a] = true
			}
		}
		delete(used, netip.Addr{})
		chosen := uint64(0)
		for a := range used {
			if within(c).Contains(a) {
				chosen++
			}
		}
		subnets[c.Subnet] = network.SubnetStatus{IPsInUse: uint64(len(used)), DynamicIPsAvailable: size(within(c)) - chosen}
	}
	return &network.Status{IPAM: network.IPAMStatus{Subnets: subnets}}
}

// size is how many addresses a range has, or the highest number there is.
func size(p netip.Prefix) uint64 {
	bits := p.Addr().BitLen() - p.Bits()
	if bits >= 64 {
		return math.MaxUint64
	}
	return 1 << bits
}

// within is the part of a subnet that addresses are chosen from.
func within(c network.IPAMConfig) netip.Prefix {
	if c.IPRange.IsValid() {
		return c.IPRange
	}
	return c.Subnet
}

// reserved says whether an address is for no container.
func reserved(c network.IPAMConfig, a netip.Addr) bool {
	if a == c.Gateway || reservedBySubnet(c.Subnet, a) {
		return true
	}
	for _, aux := range c.AuxAddress {
		if a == aux {
			return true
		}
	}
	return false
}
