package link

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// The two ends of an uplink speak IP with each other over these addresses;
// they are never seen by containers. Neighbours are entered by hand, so
// neither end ever asks for them.
var (
	UplinkStack4 = netip.MustParseAddr("169.254.255.1")
	UplinkStack6 = netip.MustParseAddr("fe80::6b65:6c70:1")
)

// uplinkDevice is the bridge namespace's end of the uplink.
const uplinkDevice = "up0"

// Uplink leads from a bridge's namespace to whoever reads and writes its
// Socket: Ethernet frames, each after a struct virtio_net_hdr.
type Uplink struct {
	// Socket is a packet socket. It stays owned by the Uplink.
	Socket *os.File
	// StackMAC is the address that the reader of Socket answers to, KernelMAC
	// that of the bridge namespace's end.
	StackMAC, KernelMAC net.HardwareAddr
	// MTU of the uplink.
	MTU int

	bridge *Bridge
	index  int // of the bridge namespace's end
	hub    *Namespace
	device string
}

// hub holds the outer ends of all uplinks. Nothing in it has an address, so
// the kernel itself never answers there.
var hub = sync.OnceValues(func() (*Namespace, error) {
	ns, err := NewNamespace()
	if err != nil {
		return nil, err
	}
	return ns, ns.Do(func() error {
		return set(sysctl{"ipv6/conf/all/disable_ipv6", "1"}, sysctl{"ipv6/conf/default/disable_ipv6", "1"})
	})
})

var uplinkNumber atomic.Uint64

// AddUplink makes the way out of the bridge's namespace and its default routes.
func (b *Bridge) AddUplink() (_ *Uplink, err error) {
	outer, err := hub()
	if err != nil {
		return nil, err
	}
	u := &Uplink{
		bridge:    b,
		hub:       outer,
		device:    fmt.Sprintf("up%d", uplinkNumber.Add(1)),
		StackMAC:  RandomMAC(),
		KernelMAC: RandomMAC(),
		MTU:       b.cfg.MTU,
	}
	defer func() {
		if err != nil {
			_ = u.Close()
		}
	}()
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := u.open(); err != nil {
		return nil, err
	}
	return u, nil
}

// open makes the uplink's devices, routes and socket.
//
// Preconditions: the bridge's lock is held.
func (u *Uplink) open() error {
	if err := u.addPair(); err != nil {
		return fmt.Errorf("cannot make the uplink: %w", err)
	}
	if err := u.route(); err != nil {
		return fmt.Errorf("cannot route to the uplink: %w", err)
	}
	if err := u.openSocket(); err != nil {
		return fmt.Errorf("cannot open the uplink: %w", err)
	}
	return nil
}

func (u *Uplink) addPair() error {
	h, err := u.bridge.Netlink()
	if err != nil {
		return err
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.Index, attrs.MTU, attrs.HardwareAddr = uplinkDevice, deviceIndex(), u.MTU, u.KernelMAC
	pair := &netlink.Veth{LinkAttrs: attrs, PeerName: u.device, PeerNamespace: netlink.NsFd(u.hub.Fd())}
	if err := h.LinkAdd(pair); err != nil {
		return err
	}
	u.index, u.bridge.uplinkIndex = attrs.Index, attrs.Index
	// The stack takes a datagram bundle for one datagram: let the kernel split.
	if err := u.bridge.Do(func() error { return setFeature(uplinkDevice, "tx-udp-segmentation", false) }); err != nil {
		return err
	}
	outer, err := u.hub.Netlink()
	if err != nil {
		return err
	}
	far, err := outer.LinkByName(u.device)
	if err != nil {
		return err
	}
	if err := outer.LinkSetUp(far); err != nil {
		return err
	}
	return h.LinkSetUp(pair)
}

func (u *Uplink) route() error {
	h, err := u.bridge.Netlink()
	if err != nil {
		return err
	}
	dev, err := h.LinkByName(uplinkDevice)
	if err != nil {
		return err
	}
	gateways := []netip.Addr{UplinkStack4}
	if u.bridge.hasIPv6() {
		gateways = append(gateways, UplinkStack6)
	}
	for _, gw := range gateways {
		err := h.NeighSet(&netlink.Neigh{
			LinkIndex:    dev.Attrs().Index,
			State:        unix.NUD_PERMANENT,
			IP:           gw.AsSlice(),
			HardwareAddr: u.StackMAC,
		})
		if err != nil {
			return fmt.Errorf("cannot enter neighbour %s: %w", gw, err)
		}
		if err := u.bridge.SetDefaultRoute(uplinkDevice, gw); err != nil {
			return err
		}
	}
	return nil
}

// openSocket opens the packet socket on the outer end.
func (u *Uplink) openSocket() (err error) {
	h, err := u.hub.Netlink()
	if err != nil {
		return err
	}
	dev, err := h.LinkByName(u.device)
	if err != nil {
		return err
	}
	// Protocol 0 receives nothing until bind names the device.
	fd, err := u.hub.Socket(unix.AF_PACKET, unix.SOCK_RAW, 0)
	if err != nil {
		return err
	}
	socket := os.NewFile(uintptr(fd), "uplink")
	defer func() {
		if err != nil {
			socket.Close()
		}
	}()
	for _, opt := range []struct {
		name       string
		level, opt int
		value      int
		must       bool
	}{
		{"PACKET_VNET_HDR", unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1, true},
		{"PACKET_IGNORE_OUTGOING", unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1, true},
		{"PACKET_QDISC_BYPASS", unix.SOL_PACKET, unix.PACKET_QDISC_BYPASS, 1, false},
		{"SO_RCVBUF", unix.SOL_SOCKET, unix.SO_RCVBUF, 8 << 20, false},
		{"SO_SNDBUF", unix.SOL_SOCKET, unix.SO_SNDBUF, 8 << 20, false},
	} {
		if err := unix.SetsockoptInt(fd, opt.level, opt.opt, opt.value); err != nil && opt.must {
			return fmt.Errorf("cannot set %s: %w", opt.name, err)
		}
	}
	all := uint16(unix.ETH_P_ALL<<8&0xff00 | unix.ETH_P_ALL>>8) // network byte order
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: dev.Attrs().Index}); err != nil {
		return os.NewSyscallError("bind", err)
	}
	u.Socket = socket
	return nil
}

// Close removes the uplink. Whoever read its socket must have stopped.
func (u *Uplink) Close() error {
	if u.Socket != nil {
		u.Socket.Close()
	}
	h, err := u.hub.Netlink()
	if err != nil {
		return err
	}
	dev, err := h.LinkByName(u.device)
	if err != nil {
		return nil // its other end took it along
	}
	return h.LinkDel(dev)
}
