// Package nstest runs the tests of a package as kelp's keeper runs: with the
// powers of a user namespace over everything but the host's network. That
// "host" is a network namespace of its own, so tests need no privileges and
// disturb nothing.
//
// It is for tests only.
package nstest

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// The addresses of the "host" that containers may reach. It has no route to
// others, but for addresses at the end of routes that say no.
const (
	HostIPv4 = "198.51.100.1"
	HostIPv6 = "2001:db8::1"

	UnreachableIPv4 = "192.0.2.1"
	UnreachableIPv6 = "2001:db8:1::1"
	ProhibitedIPv4  = "192.0.2.2"
	ProhibitedIPv6  = "2001:db8:2::1"

	// A router, what is behind it, and an address that it says is unreachable.
	RouterIPv4 = "198.18.1.1"
	RouterIPv6 = "2001:db8:3::1"
	BehindIPv4 = "198.18.2.1"
	BehindIPv6 = "2001:db8:4::1"
	DeadIPv4   = "198.18.2.2"
	DeadIPv6   = "2001:db8:4::2"
)

const stageVar = "KELP_NSTEST_STAGE"

// Main is the body of a TestMain: os.Exit(nstest.Main(m)). It enters the
// namespaces by executing the test binary again, twice: as the owner of the
// "host", then as one who owns only what it makes.
func Main(m *testing.M) int {
	switch os.Getenv(stageVar) {
	case "":
		return again("host", syscall.CLONE_NEWUSER|syscall.CLONE_NEWNET|syscall.CLONE_NEWNS)
	case "host":
		if err := makeHost(); err != nil {
			fmt.Fprintln(os.Stderr, "nstest: cannot set up the host's network:", err)
			return 1
		}
		settings, err := serveSettings()
		if err != nil {
			fmt.Fprintln(os.Stderr, "nstest: cannot serve the host's settings:", err)
			return 1
		}
		return again("keeper", syscall.CLONE_NEWUSER|syscall.CLONE_NEWNS, settings)
	case "router":
		return router()
	}
	unix.CloseOnExec(settingsFD)
	toHost = os.NewFile(settingsFD, "settings")
	return m.Run()
}

// again executes the test binary in new namespaces and returns its exit code.
func again(stage string, flags uintptr, files ...*os.File) int {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), stageVar+"="+stage)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.ExtraFiles = files
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  flags,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
		Pdeathsig:   syscall.SIGKILL,
	}
	err := cmd.Run()
	if exit, ok := err.(*exec.ExitError); ok {
		return max(exit.ExitCode(), 1)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "nstest: cannot enter namespaces:", err)
		return 1
	}
	return 0
}

func makeHost() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return err
	}
	for _, a := range []struct {
		ip   string
		bits int
	}{{HostIPv4, 32}, {HostIPv6, 128}} {
		ip := net.ParseIP(a.ip)
		addr := &netlink.Addr{IPNet: &net.IPNet{IP: ip, Mask: net.CIDRMask(a.bits, a.bits)}, Flags: unix.IFA_F_NODAD}
		if err := netlink.AddrAdd(lo, addr); err != nil {
			return err
		}
	}
	if err := makeDeadEnds(); err != nil {
		return err
	}
	if err := makeRouter(); err != nil {
		return err
	}
	for name, value := range map[string]string{"ping_group_range": "0 0", "ip_unprivileged_port_start": "53"} {
		if err := os.WriteFile("/proc/sys/net/ipv4/"+name, []byte(value), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// makeDeadEnds makes the routes that say no.
func makeDeadEnds() error {
	for addr, kind := range map[string]int{
		UnreachableIPv4: unix.RTN_UNREACHABLE, UnreachableIPv6: unix.RTN_UNREACHABLE,
		ProhibitedIPv4: unix.RTN_PROHIBIT, ProhibitedIPv6: unix.RTN_PROHIBIT,
	} {
		if err := netlink.RouteAdd(&netlink.Route{Dst: single(addr), Type: kind}); err != nil {
			return err
		}
	}
	return nil
}

// Serve calls serve for each connection that l accepts, each in a goroutine of
// its own, and closes the connection after it. It returns when l is closed.
func Serve(l net.Listener, serve func(net.Conn)) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			serve(c)
		}()
	}
}
