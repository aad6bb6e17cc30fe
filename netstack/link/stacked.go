package link

import (
	"errors"
	"fmt"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Stacked says that ports are not pairs but devices on top of a parent that
// they share; the zero Stacked says that they are pairs.
type Stacked struct {
	Driver string // "macvlan" or "ipvlan"
	// Mode is bridge, private, vepa or passthru for macvlan, l2, l3 or l3s for
	// ipvlan.
	Mode string
	// Flag of ipvlan is bridge, private or vepa.
	Flag string
}

var macvlanModes = map[string]netlink.MacvlanMode{
	"": netlink.MACVLAN_MODE_BRIDGE, "bridge": netlink.MACVLAN_MODE_BRIDGE, "private": netlink.MACVLAN_MODE_PRIVATE,
	"vepa": netlink.MACVLAN_MODE_VEPA, "passthru": netlink.MACVLAN_MODE_PASSTHRU,
}

var (
	ipvlanModes = map[string]netlink.IPVlanMode{
		"": netlink.IPVLAN_MODE_L2, "l2": netlink.IPVLAN_MODE_L2, "l3": netlink.IPVLAN_MODE_L3, "l3s": netlink.IPVLAN_MODE_L3S,
	}
	ipvlanFlags = map[string]netlink.IPVlanFlag{
		"": netlink.IPVLAN_FLAG_BRIDGE, "bridge": netlink.IPVLAN_FLAG_BRIDGE, "private": netlink.IPVLAN_FLAG_PRIVATE, "vepa": netlink.IPVLAN_FLAG_VEPA,
	}
)

// parent is what stacked ports are on.
type parent struct {
	ns    *Namespace // the bridge's
	cfg   Stacked
	mtu   int
	index int

	mu    sync.Mutex
	ports map[string]stackedPort // by name
}

// stackedPort is where a port's one device is.
type stackedPort struct {
	ns     *Namespace
	device string
}

// The parent of all stacked ports, and its other end on the bridge.
const (
	parentDevice = "parent0"
	parentPeer   = "parent1"
)

// newParent makes the parent of b's ports, and sees whether the kernel can
// stack on it.
func newParent(b *Bridge) (*parent, error) {
	p := &parent{ns: b.Namespace, cfg: b.cfg.Stacked, mtu: b.cfg.MTU, ports: map[string]stackedPort{}}
	h, err := p.ns.Netlink()
	if err != nil {
		return nil, err
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.MasterIndex = parentPeer, p.mtu, b.index
	peer := &netlink.Veth{LinkAttrs: attrs, PeerName: parentDevice}
	if err := h.LinkAdd(peer); err != nil {
		return nil, fmt.Errorf("cannot make the parent of %s: %w", p.cfg.Driver, err)
	}
	dev, err := h.LinkByName(parentDevice)
	if err != nil {
		return nil, err
	}
	p.index = dev.Attrs().Index
	if err := errors.Join(h.LinkSetUp(dev), h.LinkSetUp(peer)); err != nil {
		return nil, err
	}
	try, err := p.stack(p.ns, Port{Device: "try0"})
	if err != nil {
		return nil, err
	}
	return p, h.LinkDel(try)
}

// stack makes a device on the parent, in ns.
func (p *parent) stack(ns *Namespace, port Port) (dev netlink.Link, err error) {
	h, err := p.ns.Netlink()
	if err != nil {
		return nil, err
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.ParentIndex, attrs.Namespace = port.Device, p.mtu, p.index, netlink.NsFd(ns.Fd())
	if p.cfg.Driver == "ipvlan" {
		dev = &netlink.IPVlan{LinkAttrs: attrs, Mode: ipvlanModes[p.cfg.Mode], Flag: ipvlanFlags[p.cfg.Flag]}
	} else {
		attrs.HardwareAddr = port.MAC
		dev = &netlink.Macvlan{LinkAttrs: attrs, Mode: macvlanModes[p.cfg.Mode]}
	}
	switch err := h.LinkAdd(dev); {
	case errors.Is(err, unix.EOPNOTSUPP):
		return nil, fmt.Errorf("this kernel has no %s: %w", p.cfg.Driver, err)
	case (errors.Is(err, unix.EBUSY) || errors.Is(err, unix.EINVAL)) && p.cfg.Mode == "passthru":
		return nil, errors.New("a network in passthru mode has room for one container")
	case err != nil:
		return nil, fmt.Errorf("cannot add interface %s: %w", port.Device, err)
	}
	return dev, nil
}

// add is Bridge.AddPort for a stacked port.
func (p *parent) add(ns *Namespace, port Port) error {
	if _, err := p.stack(ns, port); err != nil {
		return err
	}
	s := stackedPort{ns, port.Device}
	if err := port.configure(ns); err != nil {
		return errors.Join(err, s.end((*netlink.Handle).LinkDel))
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ports[port.Name] = s
	return nil
}

// end does something final with a port's device; a port that is gone is no
// error.
func (p *parent) end(name string, act func(*netlink.Handle, netlink.Link) error) error {
	p.mu.Lock()
	s, ok := p.ports[name]
	delete(p.ports, name)
	p.mu.Unlock()
	if !ok {
		return nil
	}
	return s.end(act)
}

// end does something final with the port's device, unless it is gone.
func (s stackedPort) end(act func(*netlink.Handle, netlink.Link) error) error {
	h, err := s.ns.Netlink()
	if err != nil {
		return err
	}
	dev, err := h.LinkByName(s.device)
	if err == nil {
		err = act(h, dev)
	}
	if isGone(err) || errors.Is(err, unix.ENODEV) {
		return nil
	}
	return err
}
