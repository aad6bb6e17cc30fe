package reach

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/kelp-engine/kelp/netstack/dns"
)

// ServeNames answers DNS queries for the containers of one network, and
// forwards all others to the resolvers of the host, until ctx ends. It closes
// the sockets.
func ServeNames(ctx context.Context, udp *net.UDPConn, tcp *net.TCPListener, list List, networkID string) {
	z := zone{list, networkID}
	hosts := &dns.HostResolvers{Path: "/etc/resolv.conf"}
	s := dns.Serve(udp, tcp, z, &dns.Upstream{Servers: hosts.Servers, Dial: dns.DialHost}, slog.New(slog.DiscardHandler))
	<-ctx.Done()
	s.Close()
}

// zone is the names of a network's containers.
type zone struct {
	list      List
	networkID string
}

// listTimeout bounds the question to the engine behind a look-up.
const listTimeout = 5 * time.Second

func (z zone) members() []member {
	ctx, cancel := context.WithTimeout(context.Background(), listTimeout)
	defer cancel()
	list, err := z.list(ctx)
	if err != nil {
		return nil // the engine is starting again, most likely
	}
	return filter(members(list), func(m member) bool { return m.networkID == z.networkID })
}

// Lookup implements dns.Zone.
func (z zone) Lookup(name string) (addrs []netip.Addr, ok bool) {
	for _, m := range find(z.members(), name) {
		addrs, ok = append(addrs, m.addrs...), true
	}
	return addrs, ok
}

// Reverse implements dns.Zone.
func (z zone) Reverse(a netip.Addr) (string, bool) {
	for _, m := range z.members() {
		if slices.Contains(m.addrs, a) {
			return m.names[0] + "." + strings.ToLower(m.network), true
		}
	}
	return "", false
}
