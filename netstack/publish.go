package netstack

import (
	"errors"
	"fmt"
	"io"
	"net/netip"

	"github.com/kelp-engine/kelp/netstack/forward"
	"golang.org/x/sys/unix"
)

// Port is a port of a container that the host serves.
type Port struct {
	Proto string // "tcp", "udp" or "sctp"
	// HostIP is an address of the host; the zero Addr is every one.
	HostIP netip.Addr
	// HostPort to HostPortEnd are the ports to choose from; 0 is any free
	// one, and HostPortEnd 0 means HostPort alone.
	HostPort, HostPortEnd uint16
	ContainerPort         uint16
	// Preferred is tried before the others that may be chosen.
	Preferred uint16
}

// Publish opens the ports on the host and returns them as bound: one for each
// address. Either all are open or none. A sandbox whose networks are all
// internal publishes nothing.
func (s *Sandbox) Publish(ports []Port) (bound []Port, err error) {
	if s.leading(false) == nil && s.leading(true) == nil {
		return nil, nil
	}
	defer func() {
		if err != nil {
			s.Unpublish()
		}
	}()
	for _, p := range ports {
		open, err := s.publish(p)
		if err != nil {
			return nil, err
		}
		bound = append(bound, open...)
	}
	return bound, nil
}

// Unpublish closes all ports and the connections through them.
func (s *Sandbox) Unpublish() {
	for _, p := range s.ports {
		p.Close()
	}
	s.ports = nil
}

// publish tries the host ports of p one after the other.
func (s *Sandbox) publish(p Port) ([]Port, error) {
	end := max(p.HostPort, p.HostPortEnd)
	tries := int(end) - int(p.HostPort) + 1
	if p.HostPort == 0 {
		tries = 16 // the kernel chooses, but another address may have it taken
	}
	if p.Preferred != 0 {
		try := p
		try.HostPort = p.Preferred
		if bound, err := s.publishAt(try); err == nil {
			return bound, nil
		}
	}
	var err error
	for i := range tries {
		try := p
		if p.HostPort != 0 {
			try.HostPort += uint16(i)
		}
		var bound []Port
		if bound, err = s.publishAt(try); err == nil {
			return bound, nil
		}
		if !errors.Is(err, forward.ErrPortTaken) {
			return nil, err
		}
	}
	if tries > 1 && p.HostPort != 0 {
		return nil, fmt.Errorf("cannot find a free port between %d and %d: %w", p.HostPort, end, err)
	}
	return nil, err
}

// publishAt opens one port number on each address that p means.
func (s *Sandbox) publishAt(p Port) (bound []Port, err error) {
	var open []io.Closer
	defer func() {
		if err != nil {
			for _, c := range open {
				c.Close()
			}
			return
		}
		s.ports = append(s.ports, open...)
	}()
	addrs := []netip.Addr{p.HostIP}
	if !p.HostIP.IsValid() {
		addrs = []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()}
	}
	port := p.HostPort
	for i, a := range addrs {
		c, at, err := forward.Publish(p.Proto, netip.AddrPortFrom(a, port), func() (forward.Target, error) { return s.target(p, a) }, s.cfg.Log)
		if i > 0 && noSuchFamily(err) {
			continue // a host without IPv6
		}
		if err != nil {
			return nil, err
		}
		open, port = append(open, c), at.Port()
		bound = append(bound, Port{Proto: p.Proto, HostIP: a, HostPort: port, ContainerPort: p.ContainerPort})
	}
	return bound, nil
}

func noSuchFamily(err error) bool {
	return errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EADDRNOTAVAIL)
}

// target finds where a published port leads, by the address family that it is
// served on if the container has it.
func (s *Sandbox) target(p Port, host netip.Addr) (forward.Target, error) {
	ipv6 := host.Is6()
	e := s.leading(ipv6)
	if e == nil {
		ipv6 = !ipv6
		e = s.leading(ipv6)
	}
	if e == nil {
		return forward.Target{}, errors.New("the container is on no network that leads outside")
	}
	return forward.Target{
		Bridge:    e.net.bridge,
		Container: netip.AddrPortFrom(e.address(ipv6), p.ContainerPort),
		Gateway:   e.net.gateway(ipv6),
		Subnets:   e.net.prefixes(),
	}, nil
}
