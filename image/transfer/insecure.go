package transfer

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/distribution/reference"

	"github.com/kelp-engine/kelp/engine/fault"
)

// Insecure are registries that the user allows to be spoken to without TLS, or
// with certificates that nobody vouches for. Those on loopback always may be.
type Insecure struct {
	Hosts []string       `json:"hosts,omitempty"` // host[:port], as in image names
	Nets  []netip.Prefix `json:"nets,omitempty"`
}

// ParseInsecure reads dockerd's setting insecure-registries: hosts with or
// without a port, and networks as ADDRESS/BITS.
func ParseInsecure(list []string) (i Insecure, err error) {
	for _, text := range list {
		if net, err := netip.ParsePrefix(text); err == nil {
			i.Nets = append(i.Nets, net.Masked())
			continue
		}
		named, err := reference.ParseNormalizedNamed(text + "/x")
		if err != nil || reference.Domain(named) != text {
			return i, fault.InvalidArgument("insecure registry %q is not valid", text).
				WithHint("name it as in images, HOST or HOST:PORT, or give a network such as 10.0.0.0/8")
		}
		i.Hosts = append(i.Hosts, text)
	}
	return i, nil
}

// lookupTimeout bounds the question which addresses a registry has.
const lookupTimeout = 5 * time.Second

// has reports whether the registry at host is one of them.
func (i Insecure) has(host string) bool {
	if slices.Contains(i.Hosts, host) || isLoopback(host) {
		return true
	}
	if len(i.Nets) == 0 {
		return false
	}
	name, _, err := net.SplitHostPort(host)
	if err != nil {
		name = strings.Trim(host, "[]")
	}
	ctx, cancel := context.WithTimeout(context.Background(), lookupTimeout)
	defer cancel()
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", name)
	if err != nil {
		return false // who cannot be found is not spoken to at all
	}
	return slices.ContainsFunc(addrs, func(a netip.Addr) bool {
		return slices.ContainsFunc(i.Nets, func(n netip.Prefix) bool { return n.Contains(a.Unmap()) })
	})
}

func isLoopback(host string) bool {
	name, _, err := net.SplitHostPort(host)
	if err != nil {
		name = strings.Trim(host, "[]")
	}
	ip := net.ParseIP(name)
	return name == "localhost" || ip != nil && ip.IsLoopback()
}
