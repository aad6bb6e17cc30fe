package network

import (
	"maps"
	"net/netip"

	"github.com/kelp-engine/kelp/engine/keeper"
)

// lease is who has an address. A container at rest keeps its own, until they
// are the last ones of their network.
type lease struct {
	container string
	live      bool
}

// leases are the addresses of one network that containers have.
type leases map[netip.Addr]lease

// pool hands out the addresses of all networks. Its owner's lock guards it.
type pool struct {
	leases map[string]leases // by network: several may have the same addresses
}

// take gives addresses to a live container.
func (p *pool) take(networkID, containerID string, addrs []netip.Addr) {
	p.lease(networkID, addrs, lease{containerID, true})
}

// keep reserves an address for a container at rest. Having had it counts for
// more than asking for it.
func (p *pool) keep(networkID, containerID string, a netip.Addr, had bool) {
	if l := p.leases[networkID][a]; l == (lease{}) || had && !l.live {
		p.lease(networkID, []netip.Addr{a}, lease{container: containerID})
	}
}

func (p *pool) lease(networkID string, addrs []netip.Addr, l lease) {
	if p.leases[networkID] == nil {
		p.leases[networkID] = leases{}
	}
	for _, a := range addrs {
		p.leases[networkID][a] = l
	}
}

// free gives addresses back.
func (p *pool) free(networkID string, addrs []netip.Addr) {
	for _, a := range addrs {
		delete(p.leases[networkID], a)
	}
	if len(p.leases[networkID]) == 0 {
		delete(p.leases, networkID)
	}
}

// freeAll gives the addresses of endpoints back.
func (p *pool) freeAll(endpoints []keeper.Endpoint) {
	for _, e := range endpoints {
		p.free(e.NetworkID, addrs(e.Addresses))
	}
}

// rest keeps the addresses of endpoints for the container, which is not live
// any more.
func (p *pool) rest(containerID string, endpoints []keeper.Endpoint) {
	for _, e := range endpoints {
		p.lease(e.NetworkID, addrs(e.Addresses), lease{container: containerID})
	}
}

// leased says whether a container has addresses of a network, or is about to.
func (p *pool) leased(networkID string) bool {
	for _, l := range p.leases[networkID] {
		if l.live {
			return true
		}
	}
	return false
}

// Adopt reserves the addresses that a container asks for or had last, so that
// it gets them when it starts.
func (m *table) Adopt(c *Container) {
	if c.Running {
		outside{m}.count(c)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for ref, cfg := range c.Endpoints {
		r, err := m.findLocked(ref)
		if err != nil || cfg == nil {
			continue
		}
		for _, ipv6 := range []bool{false, true} {
			if a := wantedAddress(cfg, ipv6); a.IsValid() {
				m.keep(r.ID, c.ID, a, false)
			}
		}
	}
	for networkID, addrs := range c.Addresses {
		if m.networks[networkID] == nil {
			continue
		}
		for _, a := range addrs {
			m.keep(networkID, c.ID, a, true)
		}
	}
}

// Forget gives up all that is kept for a container, which is gone.
func (m *table) Forget(containerID string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for networkID, all := range m.leases {
		maps.DeleteFunc(all, func(_ netip.Addr, l lease) bool { return l.container == containerID })
		if len(all) == 0 {
			delete(m.leases, networkID)
		}
	}
}

// addressesOf are the addresses of endpoints by network.
func addressesOf(endpoints []keeper.Endpoint) map[string][]netip.Addr {
	all := map[string][]netip.Addr{}
	for _, e := range endpoints {
		all[e.NetworkID] = addrs(e.Addresses)
	}
	return all
}
