package nstest

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"syscall"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// makeRouter puts a router next to the host, in the network namespace of a
// process that lives as long as this one.
func makeRouter() error {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), stageVar+"=router")
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "host"
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "router", PeerNamespace: netlink.NsPid(cmd.Process.Pid)}); err != nil {
		return err
	}
	routes := map[string]string{BehindIPv4: RouterIPv4, DeadIPv4: RouterIPv4, BehindIPv6: RouterIPv6, DeadIPv6: RouterIPv6}
	if err := addRoutes("host", routes, "198.18.1.2/24", "2001:db8:3::2/64"); err != nil {
		return err
	}
	if _, err := in.Write([]byte{1}); err != nil {
		return err
	}
	_, err = io.ReadFull(out, make([]byte, 1))
	return err
}

// router is the router's process. It returns the exit code.
func router() int {
	_, err := os.Stdin.Read(make([]byte, 1))
	if err == nil {
		err = setUpRouter()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "nstest: cannot set up the router:", err)
		return 1
	}
	_, _ = os.Stdout.Write([]byte{1})
	_, _ = os.Stdin.Read(make([]byte, 1)) // until the host ends
	return 0
}

// setUpRouter runs in the router's namespace. What is behind the router is a
// network that leads back: who sends there comes to the end of the hops.
func setUpRouter() error {
	for file, value := range map[string]string{
		"ipv4/ip_forward": "1", "ipv6/conf/all/forwarding": "1", "ipv4/icmp_ratelimit": "0", "ipv6/icmp/ratelimit": "0",
	} {
		if err := os.WriteFile("/proc/sys/net/"+file, []byte(value), 0o644); err != nil {
			return err
		}
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
