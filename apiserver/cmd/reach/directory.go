// Package reach lets the host's own programs reach containers by address and
// by name, without publishing: a dialer, a SOCKS5 and HTTP proxy on top of it,
// and a resolver for programs inside a network's namespace.
//
// It learns names from the Engine API and gets connections from the keeper. It
// must not enter namespaces itself.
package reach

import (
	"context"
	"net/netip"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/container"

	"github.com/kelp-engine/kelp/engine/fault"
)

// List returns the running containers, as GET /containers/json does.
type List func(ctx context.Context) ([]container.Summary, error)

// member is a container's place on one network.
type member struct {
	container, network, networkID string
	names                         []string // in lower case
	addrs                         []netip.Addr
}

// members are the places of all containers. On the default network, which
// knows no names itself, a container has its name and its short id.
func members(list []container.Summary) []member {
	var all []member
	for _, c := range list {
		if c.NetworkSettings == nil {
			continue
		}
		for network, e := range c.NetworkSettings.Networks {
			m := member{container: c.ID, network: network, networkID: e.NetworkID}
			for _, n := range append(slices.Clone(c.Names), e.DNSNames...) {
				if n = strings.TrimPrefix(n, "/"); !strings.Contains(n, "/") { // else another's link
					m.names = append(m.names, strings.ToLower(n))
				}
			}
			m.names = append(m.names, c.ID[:min(len(c.ID), 12)])
			for _, a := range []netip.Addr{e.IPAddress, e.GlobalIPv6Address} {
				if a.IsValid() {
					m.addrs = append(m.addrs, a)
				}
			}
			if len(m.addrs) > 0 {
				all = append(all, m)
			}
		}
	}
	slices.SortFunc(all, func(a, b member) int { return strings.Compare(a.network, b.network) })
	return all
}

// find returns the members that a host name or an address means.
func find(all []member, host string) []member {
	if a, err := netip.ParseAddr(host); err == nil {
		return filter(all, func(m member) bool { return slices.Contains(m.addrs, a.Unmap()) })
	}
	name := strings.ToLower(strings.TrimSuffix(host, "."))
	return filter(all, func(m member) bool {
		short := strings.TrimSuffix(name, "."+strings.ToLower(m.network))
		return slices.Contains(m.names, name) || slices.Contains(m.names, short)
	})
}

func filter(all []member, wanted func(member) bool) []member {
	return slices.DeleteFunc(slices.Clone(all), func(m member) bool { return !wanted(m) })
}

// onOne reduces what find found to one network: the preferred one if it is
// among them, else any, unless each network has other containers.
func onOne(found []member, host, preferred string) ([]member, error) {
	networks := map[string][]string{} // to containers
	var names []string
	for _, m := range found {
		if networks[m.networkID] == nil {
			names = append(names, m.network)
		}
		networks[m.networkID] = append(networks[m.networkID], m.container)
	}
	if len(networks) < 2 {
		return found, nil
	}
	chosen := found[0].networkID
	if networks[preferred] != nil {
		chosen = preferred
	} else if !alike(networks) {
		return nil, fault.Conflict("%s means different containers on the networks %s", host, strings.Join(names, " and ")).
			WithHint("choose one with --network, or ask for NAME.NETWORK")
	}
	return filter(found, func(m member) bool { return m.networkID == chosen }), nil
}

// alike says whether all networks have the same containers.
func alike(networks map[string][]string) bool {
	var first []string
	for _, containers := range networks {
		slices.Sort(containers)
		if first == nil {
			first = containers
		}
		if !slices.Equal(containers, first) {
			return false
		}
	}
	return true
}
