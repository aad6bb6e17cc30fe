package network

import (
	"cmp"
	"errors"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/network"
	"golang.org/x/sys/unix"

	"github.com/kelp-engine/kelp/engine/fault"
	"github.com/kelp-engine/kelp/engine/keeper"
)

// ports are the ports that the container publishes, in a stable order.
func ports(c *Container, wishes []wish) ([]keeper.Port, error) {
	asked := maps.Clone(c.HostConfig.PortBindings)
	if asked == nil {
		asked = network.PortMap{}
	}
	if c.HostConfig.PublishAllPorts {
		for p := range c.Config.ExposedPorts {
			if len(asked[p]) == 0 {
				asked[p] = []network.PortBinding{{}}
			}
		}
	}
	var all []keeper.Port
	for p, bindings := range asked {
		for _, b := range bindings {
			port, err := parseBinding(p, b)
			if err != nil {
				return nil, err
			}
			if !port.HostIP.IsValid() {
				port.HostIP = hostBinding(wishes)
			}
			all = append(all, port)
		}
	}
	prefer(all, c.HostPorts)
	slices.SortFunc(all, func(a, b keeper.Port) int {
		return cmp.Or(
			// Fixed ports first: chosen ones must not take theirs.
			cmp.Compare(choice(a), choice(b)),
			cmp.Compare(a.ContainerPort, b.ContainerPort), cmp.Compare(a.Proto, b.Proto),
			cmp.Compare(a.HostPort, b.HostPort), a.HostIP.Compare(b.HostIP),
		)
	})
	return all, nil
}

// prefer has ports of which there is a choice stay what they last were.
func prefer(ports, last []keeper.Port) {
	last = slices.Clone(last)
	for i := range ports {
		p := &ports[i]
		if choice(*p) == 0 {
			continue
		}
		before := slices.IndexFunc(last, func(l keeper.Port) bool {
			here := l.HostIP == p.HostIP || !p.HostIP.IsValid() && l.HostIP.IsUnspecified()
			inRange := p.HostPort == 0 || p.HostPort <= l.HostPort && l.HostPort <= p.HostPortEnd
			return here && inRange && l.Proto == p.Proto && l.ContainerPort == p.ContainerPort
		})
		if before < 0 {
			continue
		}
		p.Preferred = last[before].HostPort
		// Of a port on every address there is one for each family.
		last = slices.DeleteFunc(last, func(l keeper.Port) bool { return l.HostPort == p.Preferred && l.Proto == p.Proto })
	}
}

// choice tells how much choice of host ports there is.
func choice(p keeper.Port) int {
	switch {
	case p.HostPort == 0:
		return 2
	case p.HostPortEnd > p.HostPort:
		return 1
	}
	return 0
}

func parseBinding(p network.Port, b network.PortBinding) (keeper.Port, error) {
	port := keeper.Port{Proto: string(p.Proto()), HostIP: b.HostIP, ContainerPort: p.Num()}
	if port.ContainerPort == 0 {
		return port, fault.InvalidArgument("invalid port specification: %q", p.String())
	}
	switch port.Proto {
	case "tcp", "udp":
	case "sctp":
		if !kernelHasSCTP() {
			return port, fault.NotImplemented("cannot publish port %s: this kernel has no SCTP", p).WithHint("as root, where the kernel has the module: modprobe sctp")
		}
	default:
		return port, fault.InvalidArgument("invalid proto %q of port %s", port.Proto, p)
	}
	if b.HostIP.Zone() != "" {
		return port, fault.InvalidArgument("invalid host address %s of port %s", b.HostIP, p)
	}
	if b.HostPort == "" {
		return port, nil
	}
	first, last, isRange := strings.Cut(b.HostPort, "-")
	n, err := strconv.ParseUint(first, 10, 16)
	if err != nil {
		return port, fault.InvalidArgument("invalid host port %q of port %s", b.HostPort, p)
	}
	port.HostPort = uint16(n)
	if isRange {
		end, err := strconv.ParseUint(last, 10, 16)
		if err != nil || end < n {
			return port, fault.InvalidArgument("invalid range of host ports %q of port %s", b.HostPort, p)
		}
		port.HostPortEnd = uint16(end)
	}
	return port, nil
}

// kernelHasSCTP makes a socket, which also has the kernel load the module.
func kernelHasSCTP() bool {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, unix.IPPROTO_SCTP)
	if err == nil {
		unix.Close(fd)
	}
	return !errors.Is(err, unix.EPROTONOSUPPORT) && !errors.Is(err, unix.ESOCKTNOSUPPORT)
}

// hostBinding is the host's address for ports that name none: the option of
// the network that leads outside. Docker's default, all addresses, is the zero
// Addr, which means IPv6 as well.
func hostBinding(wishes []wish) netip.Addr {
	for _, w := range wishes {
		if a, err := netip.ParseAddr(w.net.Options[optHostBinding]); err == nil && !a.IsUnspecified() {
			return a
		}
	}
	return netip.Addr{}
}

// portMap shows what is bound, and the exposed ports that are not.
func portMap(c *Container, bound []keeper.Port) network.PortMap {
	m := network.PortMap{}
	for p := range c.Config.ExposedPorts {
		m[p] = nil
	}
	for _, b := range bound {
		p, ok := network.PortFrom(b.ContainerPort, network.IPProtocol(b.Proto))
		if !ok {
			continue
		}
		m[p] = append(m[p], network.PortBinding{HostIP: b.HostIP, HostPort: strconv.Itoa(int(b.HostPort))})
	}
	return m
}
