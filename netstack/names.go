package netstack

import (
	"context"
	"errors"
	"net"
	"net/netip"

	"github.com/kelp-engine/kelp/netstack/dns"
	"github.com/kelp-engine/kelp/netstack/forward"
	"github.com/kelp-engine/kelp/netstack/link"
)

// zone is what the container of a sandbox can look up: its links, then the
// names of its networks.
type zone struct{ s *Sandbox }

// Lookup implements dns.Zone.
func (z zone) Lookup(name string) (addrs []netip.Addr, ok bool) {
	endpoints := z.s.snapshot()
	for _, e := range endpoints {
		if target, linked := e.Links[name]; linked {
			return e.net.lookup(target)
		}
	}
	for _, e := range endpoints {
		if found, known := e.net.lookup(name); known {
			addrs, ok = append(addrs, found...), true
		}
	}
	return addrs, ok
}

// Reverse implements dns.Zone.
func (z zone) Reverse(a netip.Addr) (string, bool) {
	for _, e := range z.s.snapshot() {
		if name, ok := e.net.reverse(a); ok {
			return name, true
		}
	}
	return "", false
}

// forwarder asks the container's resolvers, from inside its sandbox, or the
// host's, unless all of the container's networks are internal. A container that
// names its own resolver has named none.
type forwarder struct{ s *Sandbox }

var errInternal = errors.New("the container's networks are internal")

// Forward implements dns.Forwarder.
func (f forwarder) Forward(ctx context.Context, query []byte, tcp bool) ([]byte, error) {
	var own []netip.AddrPort
	for _, a := range f.s.cfg.Servers {
		if a != dns.Address.Addr() { // it would ask itself, and again
			own = append(own, netip.AddrPortFrom(a, dns.Address.Port()))
		}
	}
	if len(own) > 0 {
		u := dns.Upstream{Servers: dns.Fixed(own...), Dial: f.counted(f.s.dial)}
		return u.Forward(ctx, query, tcp)
	}
	if f.s.leading(false) == nil && f.s.leading(true) == nil {
		return nil, errInternal
	}
	u := dns.Upstream{Servers: f.s.cfg.HostResolvers.Servers, Dial: f.counted(dns.DialHost)}
	return u.Forward(ctx, query, tcp)
}

// counted makes the connections that dial opens count as the container's open
// files.
func (f forwarder) counted(dial dns.Dial) dns.Dial {
	return func(ctx context.Context, network string, server netip.AddrPort) (net.Conn, error) {
		release, err := forward.Hold(f.s.address(), f.s.cfg.Log)
		if err != nil {
			return nil, err
		}
		c, err := dial(ctx, network, server)
		if err != nil {
			release()
			return nil, err
		}
		return &countedConn{c, release}, nil
	}
}

// countedConn is closed once.
type countedConn struct {
	net.Conn
	release func()
}

func (c *countedConn) Close() error {
	defer c.release()
	return c.Conn.Close()
}

// address is one of the container's own, or the zero Addr.
func (s *Sandbox) address() netip.Addr {
	for _, e := range s.snapshot() {
		for _, a := range e.Addresses {
			return a.Addr()
		}
	}
	return netip.Addr{}
}

// dial opens a connection from inside the sandbox.
func (s *Sandbox) dial(ctx context.Context, network string, server netip.AddrPort) (net.Conn, error) {
	if network == "tcp" {
		return s.ns.DialTCP(ctx, link.Local{}, server)
	}
	return s.ns.DialUDP(link.Local{}, server)
}
