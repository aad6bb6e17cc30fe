package network

import (
	"cmp"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/network"

	"github.com/kelp-engine/kelp/engine/fault"
	"github.com/kelp-engine/kelp/engine/spec"
)

// linkNames are names for other containers of a user-defined network that only
// this one knows.
func linkNames(c *Container, cfg *network.EndpointSettings) map[string]string {
	all := map[string]string{}
	for _, l := range slices.Concat(c.HostConfig.Links, cfg.Links) {
		name, alias := spec.SplitLink(l)
		all[strings.ToLower(alias)] = strings.ToLower(name)
	}
	if len(all) == 0 {
		return nil
	}
	return all
}

// linked is what a container on the default network, which knows no names, is
// told of the others that it is linked to.
type linked struct {
	hosts []hostLine
	env   []string
}

// legacyLinks resolves the links of a container on the default network.
func (m *joints) legacyLinks(c *Container) (all linked, err error) {
	if !c.HostConfig.NetworkMode.IsBridge() {
		return all, nil
	}
	for _, l := range c.HostConfig.Links {
		name, alias := spec.SplitLink(l)
		other := m.containers.Lookup(name)
		if other == nil {
			return all, fault.InvalidArgument("could not get container for %s: No such container: %s", name, name)
		}
		addr, live := m.defaultAddress(other.ID)
		if !live {
			if other.Running {
				return all, fault.InvalidArgument("Cannot link to /%s, as it does not belong to the default network", other.Name).
					WithHint("connect both to a network of your own")
			}
			return all, fault.Conflict("Cannot link to a non running container: /%s AS /%s/%s", other.Name, c.Name, alias)
		}
		all.hosts = append(all.hosts, linkLine(other, alias, addr))
		all.env = append(all.env, linkEnv(c, other, alias, addr)...)
	}
	return all, nil
}

// linkLine is where a container is found that another knows by an alias.
func linkLine(other *Container, alias string, addr netip.Addr) hostLine {
	names := []string{alias, shortID(other.ID)}
	if other.Name != alias {
		names = append(names, other.Name)
	}
	return hostLine{addr, names}
}

// relink tells those that are linked to a running container where it is now.
func (m etc) relink(c *Container) {
	addr, live := m.defaultAddress(c.ID)
	if !live {
		return
	}
	err := m.containers.UpdateLinks(c.ID, func(alias string) string { return linkLine(c, alias, addr).String() })
	if err != nil {
		slog.Warn("cannot update the hosts files of linked containers", "container", c.Name, "error", err)
	}
}

// defaultAddress is the address of a running container on the default network.
func (m *joints) defaultAddress(containerID string) (netip.Addr, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range m.connected(containerID) {
		if r := m.networks[e.NetworkID]; r != nil && r.isDefault() && len(e.Addresses) > 0 {
			return e.Addresses[0].Addr(), true
		}
	}
	return netip.Addr{}, false
}

// linkEnv are the variables by which c learns of a container that it is linked
// to: its name, its exposed ports, the lowest of them first, and its
// environment.
func linkEnv(c, other *Container, alias string, addr netip.Addr) []string {
	prefix := strings.ToUpper(strings.ReplaceAll(alias, "-", "_"))
	env := []string{prefix + "_NAME=/" + c.Name + "/" + alias}
	var ports []network.Port
	for p := range other.Config.ExposedPorts {
		ports = append(ports, p)
	}
	slices.SortFunc(ports, func(a, b network.Port) int {
		return cmp.Or(cmp.Compare(a.Num(), b.Num()), cmp.Compare(a.Proto(), b.Proto()))
	})
	for i, p := range ports {
		url := fmt.Sprintf("%s://%s", p.Proto(), netip.AddrPortFrom(addr, p.Num()))
		if i == 0 {
			env = append(env, prefix+"_PORT="+url)
		}
		port := fmt.Sprintf("%s_PORT_%d_%s", prefix, p.Num(), strings.ToUpper(string(p.Proto())))
		env = append(
			env, port+"="+url, port+"_ADDR="+addr.String(),
			fmt.Sprintf("%s_PORT=%d", port, p.Num()), fmt.Sprintf("%s_PROTO=%s", port, p.Proto()),
		)
	}
	for _, kv := range other.Config.Env {
		if name, _, ok := strings.Cut(kv, "="); ok && name != "HOME" && name != "PATH" {
			env = append(env, prefix+"_ENV_"+kv)
		}
	}
	return env
}
