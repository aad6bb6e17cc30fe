// Package netstack builds containers' networks: one network namespace with a
// bridge for each, one for each container, and between the two and the host
// the traffic that packages link, forward and dns carry.
//
// It must not know records, images or Docker's API.
package netstack

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/kelp-engine/kelp/netstack/forward"
	"github.com/kelp-engine/kelp/netstack/link"
)

// Subnet is a range of addresses of a network and the network's own address
// in it. Without a gateway the containers have no way out by this family.
type Subnet struct {
	Prefix  netip.Prefix
	Gateway netip.Addr
}

// NetworkConfig says what OpenNetwork makes.
type NetworkConfig struct {
	// Name of the network, which ends the names of its containers.
	Name string
	// Bridge is the name of the bridge device inside the namespace.
	Bridge  string
	Subnets []Subnet
	MTU     int
	// Internal networks have no way out and publish no ports.
	Internal bool
	// Isolated keeps the containers from speaking with each other.
	Isolated bool
	// AnySource lets containers send under addresses that are not theirs.
	AnySource bool
	// Stacked says what the containers' devices are.
	Stacked link.Stacked
	Log     *slog.Logger
}

// DefaultMTU is the MTU of networks that ask for none.
const DefaultMTU = 1500

// Network is one isolated network.
type Network struct {
	cfg    NetworkConfig
	log    *slog.Logger
	bridge *link.Bridge
	uplink *link.Uplink
	egress *forward.Egress
	stop   func() // ends the watch over the devices

	mu      sync.Mutex
	members map[string]member // by endpoint
}

// member is what a network knows of an endpoint.
type member struct {
	names       []string
	addrs       []netip.Addr
	reachesHost bool
}

// OpenNetwork makes the network. When it fails nothing is left.
func OpenNetwork(cfg NetworkConfig) (_ *Network, err error) {
	if cfg.MTU == 0 {
		cfg.MTU = DefaultMTU
	}
	if cfg.Bridge == "" {
		cfg.Bridge = "br0"
	}
	n := &Network{cfg: cfg, log: cfg.Log.With("network", cfg.Name), members: map[string]member{}}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("cannot make network %s: %w", cfg.Name, err), n.release())
		}
	}()
	var gateways []netip.Prefix
	for _, s := range cfg.Subnets {
		if s.Gateway.IsValid() {
			gateways = append(gateways, netip.PrefixFrom(s.Gateway, s.Prefix.Bits()))
		}
	}
	n.bridge, err = link.NewBridge(link.BridgeConfig{Name: cfg.Bridge, MTU: cfg.MTU, Gateways: gateways, Isolated: cfg.Isolated, AnySource: cfg.AnySource, Stacked: cfg.Stacked})
	if err != nil {
		return nil, err
	}
	if n.bridge.TransparentErr != nil {
		n.log.Warn("containers see the network's gateway instead of their clients' addresses", "error", n.bridge.TransparentErr)
	}
	if n.bridge.GuardErr != nil {
		n.log.Warn("containers of a network can send under each other's addresses", "error", n.bridge.GuardErr)
	}
	if cfg.Internal {
		return n, n.watch()
	}
	if n.uplink, err = n.bridge.AddUplink(); err != nil {
		return nil, err
	}
	n.egress, err = forward.NewEgress(forward.EgressConfig{
		Bridge: n.bridge, Uplink: n.uplink, IPv6: n.gateway(true).IsValid(), ReachesHost: n.reachesHost, Log: n.log,
	})
	if err != nil {
		return nil, err
	}
	return n, n.watch()
}

// watch repairs what others do to the network's devices.
func (n *Network) watch() (err error) {
	n.stop, err = n.bridge.Watch(n.repair)
	return err
}

func (n *Network) repair() {
	d, err := n.bridge.Repair(n.uplink)
	if d.Reopened {
		err = errors.Join(err, n.egress.Reconnect(), d.OldSocket.Close())
	}
	for _, what := range d.Repaired {
		n.log.Warn("somebody tampered with a network, which was repaired", "damage", what)
	}
	for _, port := range d.Lost {
		n.log.Warn("the interface of a container was removed", "port", port, "container", n.owner(port),
			"hint", "'docker network disconnect' and 'connect' give it another")
	}
	if err != nil {
		n.log.Error("a network is damaged", "error", err, "hint", "it is made again when all of its containers have been stopped for a minute")
	}
}

// owner is the name of the container at a port.
func (n *Network) owner(port string) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	for id, m := range n.members {
		if portName(id) == port && len(m.names) > 0 {
			return m.names[0]
		}
	}
	return ""
}

// Close removes the network.
//
// Preconditions: no sandbox is connected to it.
func (n *Network) Close() error { return n.release() }

func (n *Network) release() error {
	var errs []error
	if n.stop != nil {
		n.stop()
	}
	if n.egress != nil {
		n.egress.Close()
	}
	if n.uplink != nil {
		errs = append(errs, n.uplink.Close())
	}
	if n.bridge != nil {
		errs = append(errs, n.bridge.Close())
	}
	return errors.Join(errs...)
}

// Namespace is the network's namespace, in which its containers' addresses
// can be reached.
func (n *Network) Namespace() *link.Namespace { return n.bridge.Namespace }

// gateway returns the network's own address of a family, or the zero Addr.
func (n *Network) gateway(ipv6 bool) netip.Addr {
	for _, s := range n.cfg.Subnets {
		if s.Gateway.IsValid() && s.Gateway.Is6() == ipv6 {
			return s.Gateway
		}
	}
	return netip.Addr{}
}

func (n *Network) prefixes() []netip.Prefix {
	var p []netip.Prefix
	for _, s := range n.cfg.Subnets {
		p = append(p, s.Prefix)
	}
	return p
}

func (n *Network) reachesHost(a netip.Addr) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, m := range n.members {
		if m.reachesHost && slices.Contains(m.addrs, a) {
			return true
		}
	}
	return false
}

// join enters an endpoint, with its names, and leave removes it.
func (n *Network) join(id string, m member) {
	m.names = lowered(m.names)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.members[id] = m
}

func (n *Network) rename(id string, names []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	m := n.members[id]
	m.names = lowered(names)
	n.members[id] = m
}

func lowered(names []string) []string {
	low := make([]string, len(names))
	for i, name := range names {
		low[i] = strings.ToLower(name)
	}
	return low
}

func (n *Network) leave(id string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.members, id)
}

// lookup returns the addresses behind a name, which may end in the network's.
func (n *Network) lookup(name string) (addrs []netip.Addr, ok bool) {
	short := strings.TrimSuffix(name, "."+strings.ToLower(n.cfg.Name))
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, m := range n.members {
		if slices.Contains(m.names, name) || slices.Contains(m.names, short) {
			addrs, ok = append(addrs, m.addrs...), true
		}
	}
	return addrs, ok
}

// reverse returns the first name of the endpoint with an address.
func (n *Network) reverse(a netip.Addr) (string, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, m := range n.members {
		if len(m.names) > 0 && slices.Contains(m.addrs, a) {
			return m.names[0] + "." + n.cfg.Name, true
		}
	}
	return "", false
}
