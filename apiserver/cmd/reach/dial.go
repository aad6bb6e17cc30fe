package reach

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"strconv"
)

// Dialer connects to containers by name and by address, and to everything
// else as any program of the host does.
type Dialer struct {
	List List
	// Network is the id of the network that is meant when names or addresses
	// clash; "" is none.
	Network string
	// Connect opens a connection inside a network; proto is "tcp" or "udp".
	Connect func(ctx context.Context, proto, networkID string, to netip.AddrPort) (net.Conn, error)
}

// DialContext connects to host:port by "tcp" or "udp".
func (d *Dialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	host, portText, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("cannot connect to %s: the port is no number", address)
	}
	list, err := d.List(ctx)
	if err != nil {
		return nil, fmt.Errorf("cannot ask for the containers: %w", err)
	}
	found, err := onOne(find(members(list), host), host, d.Network)
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		var host net.Dialer
		return host.DialContext(ctx, network, address)
	}
	return d.connect(ctx, network, found, host, uint16(port))
}

// connect tries the addresses of replicas in random order, so that they share
// the load.
func (d *Dialer) connect(ctx context.Context, proto string, found []member, host string, port uint16) (net.Conn, error) {
	exact, _ := netip.ParseAddr(host)
	var errs []error
	for _, i := range rand.Perm(len(found)) {
		for _, a := range found[i].addrs {
			if exact.IsValid() && a != exact.Unmap() {
				continue
			}
			to := netip.AddrPortFrom(a, port)
			c, err := d.Connect(ctx, proto, found[i].networkID, to)
			if err == nil {
				return c, nil
			}
			errs = append(errs, fmt.Errorf("cannot connect to %s in network %s: %w", to, found[i].network, err))
		}
	}
	return nil, errors.Join(errs...)
}
