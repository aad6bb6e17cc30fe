package netstack

import (
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/kelp-engine/kelp/netstack/link"
	"github.com/kelp-engine/kelp/test/nstest"
)

// tamper is what somebody does who entered a namespace.
func tamper(t *testing.T, ns *link.Namespace, do func(h *netlink.Handle) error) {
	t.Helper()
	h, err := ns.Netlink()
	check(t, err)
	check(t, do(h))
}

func remove(name string) func(*netlink.Handle) error {
	return func(h *netlink.Handle) error { return onLink(h, name, h.LinkDel) }
}

func down(name string) func(*netlink.Handle) error {
	return func(h *netlink.Handle) error { return onLink(h, name, h.LinkSetDown) }
}

func orphan(name string) func(*netlink.Handle) error {
	return func(h *netlink.Handle) error { return onLink(h, name, h.LinkSetNoMaster) }
}

func onLink(h *netlink.Handle, name string, do func(netlink.Link) error) error {
	dev, err := h.LinkByName(name)
	if err != nil {
		return err
	}
	return do(dev)
}

// What is done to a network's devices from outside is undone, and connections
// that are open live through it.
func TestDamageIsRepaired(t *testing.T) {
	host := hostEcho(t)
	for _, c := range []struct {
		name string
		do   func(n *Network, port string) (*link.Namespace, func(*netlink.Handle) error)
	}{
		{"bridge removed", func(n *Network, _ string) (*link.Namespace, func(*netlink.Handle) error) {
			return n.Namespace(), remove("br0")
		}},
		{"bridge down", func(n *Network, _ string) (*link.Namespace, func(*netlink.Handle) error) {
			return n.Namespace(), down("br0")
		}},
		{"uplink removed", func(n *Network, _ string) (*link.Namespace, func(*netlink.Handle) error) {
			return n.Namespace(), remove("up0")
		}},
		{"uplink down", func(n *Network, _ string) (*link.Namespace, func(*netlink.Handle) error) {
			return n.Namespace(), down("up0")
		}},
		{"port down", func(n *Network, port string) (*link.Namespace, func(*netlink.Handle) error) {
			return n.Namespace(), down(port)
		}},
		{"port off the bridge", func(n *Network, port string) (*link.Namespace, func(*netlink.Handle) error) {
			return n.Namespace(), orphan(port)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := openNetwork(t, "reef", 22, nil)
			a, b := openSandbox(t, SandboxConfig{}), openSandbox(t, SandboxConfig{})
			id := connect(t, a, n, 2, "a")
			connect(t, b, n, 3, "b")
			serve(t, b, "172.22.0.3:80", "b")
			serve(t, b, "[fd00:22::3]:81", "b")
			bound, err := b.Publish([]Port{{Proto: "tcp", HostIP: netip.MustParseAddr(nstest.HostIPv4), ContainerPort: 80}})
			check(t, err)
			published := netip.AddrPortFrom(bound[0].HostIP, bound[0].HostPort).String()
			open, err := dialFrom(a, host)
			check(t, err)
			defer open.Close()
			check(t, talk(open))

			ns, do := c.do(n, portName(id))
			tamper(t, ns, do)
			for what, try := range map[string]func() error{
				"the other container":        func() error { return word(dialFrom(a, "172.22.0.3:80")) },
				"the other container's IPv6": func() error { return word(dialFrom(a, "[fd00:22::3]:81")) },
				"the published port":         func() error { return word(net.DialTimeout("tcp", published, time.Second)) },
				"the host": func() error {
					c, err := dialFrom(a, host)
					if err != nil {
						return err
					}
					defer c.Close()
					return talk(c)
				},
				"a connection that was open": func() error { return talk(open) },
			} {
				eventually(t, what, try)
			}
		})
	}
}

// A container that lost its interface gets another when it is connected anew.
func TestLostInterface(t *testing.T) {
	n := openNetwork(t, "reef", 22, nil)
	a, b := openSandbox(t, SandboxConfig{}), openSandbox(t, SandboxConfig{})
	connect(t, b, n, 3, "b")
	serve(t, b, "172.22.0.3:80", "b")
	for range 2 {
		id := connect(t, a, n, 2, "a")
		eventually(t, "the other container", func() error { return word(dialFrom(a, "172.22.0.3:80")) })
		tamper(t, a.ns, remove("eth0"))
		check(t, a.Disconnect(id))
	}
}

// eventually waits for what must work within a while.
func eventually(t *testing.T, what string, try func() error) {
	t.Helper()
	var err error
	for end := time.Now().Add(3 * time.Minute); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if err = try(); err == nil {
			return
		}
	}
	t.Errorf("%s: %v", what, err)
}

func word(c net.Conn, err error) error {
	if err != nil {
		return err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	b, err := io.ReadAll(c)
	if err == nil && len(b) == 0 {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// talk sends a word that must come back.
func talk(c net.Conn) error {
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.WriteString(c, "kelp"); err != nil {
		return err
	}
	_, err := io.ReadFull(c, make([]byte, 4))
	return err
}

// hostEcho serves on the host and returns what it gets.
func hostEcho(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp4", nstest.HostIPv4+":0")
	check(t, err)
	t.Cleanup(func() { l.Close() })
	go nstest.Serve(l, func(c net.Conn) { _, _ = io.Copy(c, c) })
	return l.Addr().String()
}
