package link

import (
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Ports that are kept from speaking with each other cannot do so by way of the
// gateway, which says so.
func TestIsolatedPortsAreSoThroughTheGateway(t *testing.T) {
	gateways := []netip.Prefix{netip.MustParsePrefix("10.9.0.1/24"), netip.MustParsePrefix("fd09::1/64")}
	b, err := NewBridge(BridgeConfig{Name: "br0", MTU: 1500, Gateways: gateways, Isolated: true})
	check(t, err)
	defer b.Close()
	join := func(name string, mac net.HardwareAddr, addrs ...netip.Prefix) *Namespace {
		ns, err := NewNamespace()
		check(t, err)
		t.Cleanup(func() { ns.Close() })
		check(t, b.AddPort(ns, Port{Name: name, Device: "eth0", MAC: mac, Addresses: addrs}))
		return ns
	}
	eve := join("veve", eveMAC, netip.PrefixFrom(eve4, 24), netip.PrefixFrom(eve6, 64))
	bob := join("vbob", bobMAC, netip.PrefixFrom(bob4, 24), netip.PrefixFrom(bob6, 64))
	for i, a := range []netip.Addr{bob4, bob6} {
		through(t, eve, a, gateways[i].Addr())
		in, err := bob.ListenPacket("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(a, 9)))
		check(t, err)
		defer in.Close()
		out, err := eve.DialUDP(Local{}, netip.AddrPortFrom(a, 9))
		check(t, err)
		defer out.Close()
		_, err = out.Write([]byte("boo"))
		check(t, err)
		check(t, out.SetReadDeadline(time.Now().Add(time.Minute)))
		if _, err := out.Read(make([]byte, 1)); !errors.Is(err, unix.EHOSTUNREACH) && !errors.Is(err, unix.EACCES) {
			t.Errorf("%s: got %v", a, err)
		}
	}
}

// through makes a namespace send to an address of its link by way of another.
func through(t *testing.T, ns *Namespace, to, gateway netip.Addr) {
	t.Helper()
	h, err := ns.Netlink()
	check(t, err)
	dev, err := h.LinkByName("eth0")
	check(t, err)
	check(t, h.RouteAdd(&netlink.Route{LinkIndex: dev.Attrs().Index, Dst: ipNet(netip.PrefixFrom(to, to.BitLen())), Gw: gateway.AsSlice()}))
}
