package link

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// BridgeConfig says what NewBridge makes.
type BridgeConfig struct {
	// Name of the bridge device inside the namespace.
	Name string
	// MTU of the bridge and of every port.
	MTU int
	// Gateways are the bridge's own addresses with their networks.
	Gateways []netip.Prefix
	// Isolated keeps the ports from speaking with each other.
	Isolated bool
	// AnySource lets ports send under addresses that are not theirs.
	AnySource bool
	// Stacked says what ports are.
	Stacked Stacked
}

// Bridge is one isolated network: a namespace with a kernel bridge that
// routes between its ports and, when there is one, its uplink.
type Bridge struct {
	*Namespace
	cfg BridgeConfig
	mac net.HardwareAddr

	mu          sync.Mutex // held also while something is repaired
	index       int
	uplinkIndex int            // 0 is none
	ports       map[string]int // their devices' indexes, by name
	parent      *parent        // of stacked ports; nil where they are pairs

	// Transparent tells whether the kernel can keep foreign source addresses
	// on sockets of the namespace; why not is in TransparentErr.
	Transparent    bool
	TransparentErr error
	// GuardErr is why the kernel cannot keep ports from sending under foreign
	// addresses.
	GuardErr error
	guard    *guard // nil where there is none
}

// NewBridge makes a namespace and the bridge in it.
func NewBridge(cfg BridgeConfig) (_ *Bridge, err error) {
	ns, err := NewNamespace()
	if err != nil {
		return nil, err
	}
	b := &Bridge{Namespace: ns, cfg: cfg, mac: RandomMAC(), ports: map[string]int{}}
	defer func() {
		if err != nil {
			ns.Close()
		}
	}()
	if err := ns.Do(b.sysctls); err != nil {
		return nil, err
	}
	if err := ns.LoopbackUp(); err != nil {
		return nil, err
	}
	if err := b.makeDevice(); err != nil {
		return nil, fmt.Errorf("cannot make bridge %s: %w", cfg.Name, err)
	}
	if cfg.Stacked != (Stacked{}) {
		if b.parent, err = newParent(b); err != nil {
			return nil, err
		}
		return b, nil
	}
	if cfg.Isolated {
		if err := b.keepApart(); err != nil {
			return nil, err
		}
	}
	b.TransparentErr = b.keepSources()
	b.Transparent = b.TransparentErr == nil
	if !cfg.AnySource {
		if g, err := newGuard(ns); err != nil {
			b.GuardErr = err
		} else {
			b.guard = g
		}
	}
	return b, nil
}

// Close lets the network go.
func (b *Bridge) Close() error {
	if b.guard != nil {
		b.guard.close()
	}
	return b.Namespace.Close()
}

// keepApart ends the way from port to port that leads through the bridge's own
// address.
func (b *Bridge) keepApart() error {
	h, err := b.Netlink()
	if err != nil {
		return err
	}
	for _, g := range b.cfg.Gateways {
		rule := netlink.NewRule()
		rule.Family, rule.IifName, rule.Dst, rule.Type = netlink.FAMILY_V4, b.cfg.Name, ipNet(g.Masked()), unix.RTN_PROHIBIT
		if g.Addr().Is6() {
			rule.Family = netlink.FAMILY_V6
		}
		if err := h.RuleAdd(rule); err != nil {
			return fmt.Errorf("cannot keep containers from speaking with each other: %w", err)
		}
	}
	return nil
}

// Owns says whether an address is one of the bridge's own.
func (b *Bridge) Owns(a netip.Addr) bool {
	return slices.ContainsFunc(b.cfg.Gateways, func(g netip.Prefix) bool { return g.Addr() == a })
}

func (b *Bridge) hasIPv6() bool {
	for _, g := range b.cfg.Gateways {
		if g.Addr().Is6() {
			return true
		}
	}
	return false
}

func (b *Bridge) sysctls() error {
	settings := []sysctl{
		{"ipv4/ip_forward", "1"},
		{"ipv4/ping_group_range", "0 0"}, // the user's own group
		{"ipv4/conf/all/rp_filter", "0"}, // answers and re-sent packets come in by the uplink
		{"ipv4/conf/default/rp_filter", "0"},
		{"ipv4/conf/all/send_redirects", "0"},
		{"ipv4/conf/default/send_redirects", "0"},
		{"ipv4/conf/all/accept_redirects", "0"},
		{"ipv4/tcp_early_demux", "0"},           // a SYN that is early found to meet a lingering socket is not forwarded
		{"bridge/bridge-nf-call-iptables", "0"}, // bridged packets need no rules
		{"bridge/bridge-nf-call-ip6tables", "0"},
		{"bridge/bridge-nf-call-arptables", "0"},
	}
	if !b.hasIPv6() {
		return set(append(settings, sysctl{"ipv6/conf/all/disable_ipv6", "1"}, sysctl{"ipv6/conf/default/disable_ipv6", "1"})...)
	}
	return set(append(
		settings,
		sysctl{"ipv6/conf/all/disable_ipv6", "0"},
		sysctl{"ipv6/conf/default/disable_ipv6", "0"},
		sysctl{"ipv6/conf/all/forwarding", "1"},
		sysctl{"ipv6/conf/all/accept_ra", "0"},
		sysctl{"ipv6/conf/default/accept_ra", "0"},
		sysctl{"ipv6/conf/default/accept_dad", "0"}, // an address must work at once
		sysctl{"ipv6/conf/all/accept_redirects", "0"},
	)...)
}

func (b *Bridge) makeDevice() error {
	h, err := b.Netlink()
	if err != nil {
		return err
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = b.cfg.Name, b.cfg.MTU
	// A bridge without an address of its own takes that of a port, and
	// changes it when the port goes.
	attrs.HardwareAddr = b.mac
	// A bridge that learns who wants multicasts believes any port that plays
	// the router, and keeps IPv6 neighbours from finding each other.
	dev := &netlink.Bridge{LinkAttrs: attrs, MulticastSnooping: new(bool)}
	if err := h.LinkAdd(dev); err != nil {
		return err
	}
	b.index = dev.Index
	if err := addAddresses(h, dev, b.cfg.Gateways); err != nil {
		return err
	}
	return h.LinkSetUp(dev)
}

func addAddresses(h *netlink.Handle, dev netlink.Link, addrs []netip.Prefix) error {
	for _, a := range addrs {
		if err := addAddress(h, dev, a); err != nil {
			return err
		}
	}
	return nil
}

// deviceIndex returns an index for the bridge's end of a pair. The kernel takes
// a pair whose ends have the same index in their namespaces for a single
// device, and brings its first end up to a second late.
func deviceIndex() int { return int(1<<20 + deviceNumber.Add(1)%(1<<29)) }

var deviceNumber atomic.Uint32

// RandomMAC returns a locally administered unicast address.
func RandomMAC() net.HardwareAddr {
	mac := make(net.HardwareAddr, 6)
	rand.Read(mac)
	mac[0] = mac[0]&^1 | 2
	return mac
}

func addAddress(h *netlink.Handle, l netlink.Link, p netip.Prefix) error {
	addr := &netlink.Addr{IPNet: ipNet(p)}
	if p.Addr().Is6() {
		addr.Flags = unix.IFA_F_NODAD
	}
	if err := h.AddrAdd(l, addr); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("cannot add address %s to %s: %w", p, l.Attrs().Name, err)
	}
	return nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
