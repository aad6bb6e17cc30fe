package doctor

import (
	"context"
	"encoding/json"
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/kelp-engine/kelp/netstack/link"
)

// Network is what kelp's networks need of the kernel, tried out in namespaces
// of their own; nil is success.
type Network struct {
	// Devices are a bridge and a way out of it: without them there are no
	// networks.
	Devices error
	// Rules are nftables' tproxy, socket and dnat.
	Rules error
	// Guard are nftables' rules for bridges, which know senders.
	Guard error
	// Macvlan, Ipvlan and SCTP are for those who ask for them.
	Macvlan, Ipvlan, SCTP error
}

// trialEnv makes this program, executed again in a user namespace, the trial.
const trialEnv = "KELP_DOCTOR_NETWORK"

// IsTrial says whether this process was executed to try the network out.
func IsTrial() bool { return os.Getenv(trialEnv) != "" }

// Trial tries the network out and prints what failed. It returns the exit code.
func Trial() int {
	failures := map[string]string{}
	note := func(name string, err error) {
		if err != nil {
			failures[name] = err.Error()
		}
	}
	bridge, err := link.NewBridge(link.BridgeConfig{
		Name: "br0", MTU: 1500, Gateways: []netip.Prefix{netip.MustParsePrefix("192.0.2.1/24")},
	})
	note("devices", err)
	if err == nil {
		defer bridge.Close()
		_, err := bridge.AddUplink()
		note("devices", err)
		note("rules", tryRules(bridge))
		note("guard", bridge.GuardErr)
		note("macvlan", tryDevice(bridge, func(a netlink.LinkAttrs) netlink.Link { return &netlink.Macvlan{LinkAttrs: a} }))
		note("ipvlan", tryDevice(bridge, func(a netlink.LinkAttrs) netlink.Link { return &netlink.IPVlan{LinkAttrs: a} }))
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, unix.IPPROTO_SCTP)
	note("sctp", err)
	if err == nil {
		unix.Close(fd)
	}
	if err := json.NewEncoder(os.Stdout).Encode(failures); err != nil {
		return 1
	}
	return 0
}

func tryRules(b *link.Bridge) error {
	if b.TransparentErr != nil {
		return b.TransparentErr
	}
	loopback := netip.MustParseAddrPort("127.0.0.1:1")
	if err := b.Intercept(loopback, netip.AddrPort{}); err != nil {
		return err
	}
	return b.Redirect(loopback, 2, 2)
}

// tryDevice makes a device on top of the bridge.
func tryDevice(b *link.Bridge, device func(netlink.LinkAttrs) netlink.Link) error {
	h, err := b.Netlink()
	if err != nil {
		return err
	}
	parent, err := h.LinkByName("br0")
	if err != nil {
		return err
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.ParentIndex = "trial", parent.Attrs().Index
	l := device(attrs)
	if err := h.LinkAdd(l); err != nil {
		return err
	}
	return h.LinkDel(l)
}

// trialTimeout bounds the trial.
const trialTimeout = 20 * time.Second

// tryNetwork executes the trial in a user namespace with the caller's id alone.
func tryNetwork(ctx context.Context) Network {
	ctx, cancel := context.WithTimeout(ctx, trialTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, "/proc/self/exe")
	cmd.Env = append(os.Environ(), trialEnv+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
		Pdeathsig:   syscall.SIGKILL,
	}
	out, err := cmd.Output()
	var failures map[string]string
	if err == nil {
		err = json.Unmarshal(out, &failures)
	}
	if err != nil {
		return Network{Devices: err}
	}
	failure := func(name string) error {
		if text := failures[name]; text != "" {
			return errors.New(text)
		}
		return nil
	}
	return Network{
		Devices: failure("devices"), Rules: failure("rules"), Guard: failure("guard"),
		Macvlan: failure("macvlan"), Ipvlan: failure("ipvlan"), SCTP: failure("sctp"),
	}
}
