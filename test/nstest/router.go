package nstest

import (
	"net"
	"os"
	"runtime"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// makeRouter puts a router next to the host, in a network namespace of its own
// that lives as long as the veth pair to it.
func makeRouter() error {
	made := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		made <- func() error {
			host, err := os.Open("/proc/thread-self/ns/net")
			if err != nil {
				return err
			}
			defer host.Close()
			if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
				return err
			}
			return setUpRouter(int(host.Fd()))
		}()
		select {} // it holds the namespace
	}()
	if err := <-made; err != nil {
		return err
	}
	return addRoutes("host", map[string]string{
		BehindIPv4: RouterIPv4, DeadIPv4: RouterIPv4, BehindIPv6: RouterIPv6, DeadIPv6: RouterIPv6,
	}, "198.18.1.2/24", "2001:db8:3::2/64")
}

// setUpRouter runs in the router's namespace. What is behind the router is a
// network that leads back: who sends there comes to the end of the hops.
func setUpRouter(host int) error {
	for file, value := range map[string]string{
		"ipv4/ip_forward": "1", "ipv6/conf/all/forwarding": "1", "ipv4/icmp_ratelimit": "0", "ipv6/icmp/ratelimit": "0",
	} {
		if err := os.WriteFile("/proc/sys/net/"+file, []byte(value), 0o644); err != nil {
			return err
		}
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "router"
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "host", PeerNamespace: netlink.NsFd(host)}); err != nil {
		return err
	}
	if err := addRoutes("router", map[string]string{BehindIPv4: "198.18.1.2", BehindIPv6: "2001:db8:3::2"}, RouterIPv4+"/24", RouterIPv6+"/64"); err != nil {
		return err
	}
	for _, dead := range []string{DeadIPv4, DeadIPv6} {
		if err := netlink.RouteAdd(&netlink.Route{Dst: single(dead), Type: unix.RTN_UNREACHABLE}); err != nil {
			return err
		}
	}
	return nil
}

// addRoutes gives a device addresses and routes.
func addRoutes(device string, via map[string]string, addresses ...string) error {
	l, err := netlink.LinkByName(device)
	if err != nil {
		return err
	}
	for _, a := range addresses {
		addr, err := netlink.ParseAddr(a)
		if err != nil {
			return err
		}
		addr.Flags = unix.IFA_F_NODAD
		if err := netlink.AddrAdd(l, addr); err != nil {
			return err
		}
	}
	if err := netlink.LinkSetUp(l); err != nil {
		return err
	}
	for to, gateway := range via {
		if err := netlink.RouteAdd(&netlink.Route{LinkIndex: l.Attrs().Index, Dst: single(to), Gw: net.ParseIP(gateway)}); err != nil {
			return err
		}
	}
	return nil
}

// single is the network of one address.
func single(addr string) *net.IPNet {
	ip := net.ParseIP(addr)
	bits := 8 * len(ip)
	if v4 := ip.To4(); v4 != nil {
		ip, bits = v4, 32
	}
	return &net.IPNet{IP: ip, Mask: net.CIDRMask(bits, bits)}
}
