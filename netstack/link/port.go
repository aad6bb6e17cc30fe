package link

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Port is one end of a veth pair on a bridge; its other end is a device of a
// container's namespace.
type Port struct {
	// Name of the device on the bridge's side.
	Name string
	// Device is the name inside the container, for instance eth0.
	Device string
	// MAC of the container's device.
	MAC net.HardwareAddr
	// Addresses of the container's device with their networks.
	Addresses []netip.Prefix
	// Sysctls of the container's device, by name below /proc/sys/net in
	// which IFNAME stands for the device.
	Sysctls map[string]string
}

// AddPort makes the port and puts its other end, up and with its addresses,
// into ns. When it fails nothing is left.
func (b *Bridge) AddPort(ns *Namespace, p Port) (err error) {
	if b.parent != nil {
		return b.parent.add(ns, p)
	}
	h, err := b.Netlink()
	if err != nil {
		return err
	}
	b.mu.Lock()
	master := b.index
	b.mu.Unlock()
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.Index, attrs.MTU, attrs.MasterIndex = p.Name, deviceIndex(), b.cfg.MTU, master
	veth := &netlink.Veth{
		LinkAttrs:        attrs,
		PeerName:         p.Device,
		PeerHardwareAddr: p.MAC,
		PeerNamespace:    netlink.NsFd(ns.Fd()),
	}
	if err := h.LinkAdd(veth); err != nil {
		if errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("cannot add interface %s: it exists: %w", p.Device, err)
		}
		return fmt.Errorf("cannot add interface %s: %w", p.Device, err)
	}
	defer func() {
		if err != nil {
			_ = h.LinkDel(veth)
			_ = b.forget(p.Name)
		}
	}()
	if b.guard != nil {
		if err := b.guard.allow(attrs.Index, p); err != nil {
			return err
		}
	}
	if err := p.configure(ns); err != nil {
		return err
	}
	if b.cfg.Isolated {
		if err := h.LinkSetIsolated(veth, true); err != nil {
			return fmt.Errorf("cannot isolate interface %s: %w", p.Device, err)
		}
	}
	if err := h.LinkSetUp(veth); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ports[p.Name] = attrs.Index
	return nil
}

// configure sets the container's side up.
func (p Port) configure(ns *Namespace) error {
	if err := ns.Do(p.sysctls); err != nil {
		return err
	}
	h, err := ns.Netlink()
	if err != nil {
		return err
	}
	dev, err := h.LinkByName(p.Device)
	if err != nil {
		return fmt.Errorf("cannot find interface %s: %w", p.Device, err)
	}
	if err := addAddresses(h, dev, p.Addresses); err != nil {
		return err
	}
	return h.LinkSetUp(dev)
}

func (p Port) sysctls() error {
	disable := "1"
	for _, a := range p.Addresses {
		if a.Addr().Is6() {
			disable = "0"
		}
	}
	settings := []sysctl{
		{"ipv4/conf/" + p.Device + "/arp_notify", "1"}, // neighbours may remember who had the address before
		{"ipv6/conf/" + p.Device + "/ndisc_notify", "1"},
		{"ipv6/conf/" + p.Device + "/disable_ipv6", disable},
		{"ipv6/conf/" + p.Device + "/accept_ra", "0"},
		{"ipv6/conf/" + p.Device + "/accept_dad", "0"},
	}
	if err := set(settings...); err != nil {
		return err
	}
	for name, value := range p.Sysctls {
		file := strings.ReplaceAll(strings.ReplaceAll(name, ".", "/"), "IFNAME", p.Device)
		file = strings.TrimPrefix(file, "net/")
		if file != path.Clean(file) || path.IsAbs(file) || strings.HasPrefix(file, "..") {
			return fmt.Errorf("cannot set sysctl %q: it is not a name below net", name)
		}
		if err := (sysctl{file, value}).write(); err != nil {
			return err
		}
	}
	return nil
}

// RemovePort removes the port and the container's device with it. A port that
// is gone, because its container's namespace is, is no error.
func (b *Bridge) RemovePort(name string) error {
	if b.parent != nil {
		return b.parent.end(name, (*netlink.Handle).LinkDel)
	}
	return errors.Join(b.forget(name), b.onPort(name, func(h *netlink.Handle, dev netlink.Link) error {
		return h.LinkDel(dev)
	}))
}

// MutePort keeps a port from sending and receiving. It is much faster than
// RemovePort, and enough where the container's namespace is about to end and
// takes the pair along.
func (b *Bridge) MutePort(name string) error {
	if b.parent != nil {
		return b.parent.end(name, (*netlink.Handle).LinkSetDown)
	}
	return errors.Join(b.forget(name), b.onPort(name, func(_ *netlink.Handle, dev netlink.Link) error {
		req := nl.NewNetlinkRequest(unix.RTM_SETLINK, unix.NLM_F_ACK)
		msg := nl.NewIfInfomsg(unix.AF_BRIDGE)
		msg.Index = int32(dev.Attrs().Index)
		req.AddData(msg)
		info := nl.NewRtAttr(unix.IFLA_PROTINFO|unix.NLA_F_NESTED, nil)
		info.AddRtAttr(nl.IFLA_BRPORT_STATE, []byte{0}) // disabled
		req.AddData(info)
		return b.Do(func() error {
			_, err := req.Execute(unix.NETLINK_ROUTE, 0)
			return err
		})
	}))
}

// onPort does something with a port's device unless it is gone.
func (b *Bridge) onPort(name string, act func(*netlink.Handle, netlink.Link) error) error {
	h, err := b.Netlink()
	if err != nil {
		return err
	}
	dev, err := h.LinkByName(name)
	if err == nil {
		err = act(h, dev)
	}
	if _, gone := errors.AsType[netlink.LinkNotFoundError](err); gone || errors.Is(err, unix.ENODEV) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot end interface %s: %w", name, err)
	}
	return nil
}

// forget takes a port's right to send, and to be repaired.
func (b *Bridge) forget(port string) error {
	b.mu.Lock()
	delete(b.ports, port)
	b.mu.Unlock()
	if b.guard == nil {
		return nil
	}
	return b.guard.forget(port)
}

// SetDefaultRoute makes gateway, reached through device, the namespace's
// default route of its address family.
func (n *Namespace) SetDefaultRoute(device string, gateway netip.Addr) error {
	h, err := n.Netlink()
	if err != nil {
		return err
	}
	dev, err := h.LinkByName(device)
	if err != nil {
		return fmt.Errorf("cannot find interface %s: %w", device, err)
	}
	err = h.RouteReplace(&netlink.Route{
		LinkIndex: dev.Attrs().Index,
		Dst:       anywhere(gateway),
		Gw:        gateway.AsSlice(),
		Flags:     int(netlink.FLAG_ONLINK),
	})
	if err != nil {
		return fmt.Errorf("cannot set the default route through %s: %w", gateway, err)
	}
	return nil
}

// DropDefaultRoute removes the namespace's default routes of one family.
func (n *Namespace) DropDefaultRoute(ipv6 bool) error {
	h, err := n.Netlink()
	if err != nil {
		return err
	}
	family := netlink.FAMILY_V4
	if ipv6 {
		family = netlink.FAMILY_V6
	}
	routes, err := h.RouteListFiltered(family, &netlink.Route{Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE)
	if err != nil {
		return fmt.Errorf("cannot list routes: %w", err)
	}
	for _, r := range routes {
		if r.Dst != nil {
			if ones, _ := r.Dst.Mask.Size(); ones > 0 {
				continue
			}
		}
		if err := h.RouteDel(&r); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("cannot remove the default route: %w", err)
		}
	}
	return nil
}

// anywhere is the network of all addresses of a's family.
func anywhere(a netip.Addr) *net.IPNet {
	if a.Is4() {
		return ipNet(netip.PrefixFrom(netip.IPv4Unspecified(), 0))
	}
	return ipNet(netip.PrefixFrom(netip.IPv6Unspecified(), 0))
}
