package link

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// Containers on stacked devices reach each other as their mode has it. The
// kernels without ipvlan say so; hack/vm/run has one with it.
func TestStackedPorts(t *testing.T) {
	for _, tt := range []struct {
		Stacked
		reach bool
	}{
		{Stacked{"macvlan", "", ""}, true},
		{Stacked{"macvlan", "bridge", ""}, true},
		{Stacked{"macvlan", "private", ""}, false},
		{Stacked{"macvlan", "vepa", ""}, false},
		{Stacked{"ipvlan", "", ""}, true},
		{Stacked{"ipvlan", "l2", "private"}, false},
		{Stacked{"ipvlan", "l3", ""}, true},
		{Stacked{"ipvlan", "l3s", ""}, true},
		{Stacked{"ipvlan", "l3", "private"}, false},
	} {
		t.Run(strings.Join([]string{tt.Driver, tt.Mode, tt.Flag}, " "), func(t *testing.T) {
			b, err := NewBridge(BridgeConfig{Name: "br0", MTU: 1500, Stacked: tt.Stacked, Gateways: []netip.Prefix{netip.MustParsePrefix("10.9.0.1/24")}})
			if err != nil && strings.Contains(err.Error(), "this kernel has no ipvlan") {
				t.Skip(err)
			}
			check(t, err)
			defer b.Close()
			join := func(name string, mac net.HardwareAddr, a netip.Addr) *Namespace {
				ns, err := NewNamespace()
				check(t, err)
				t.Cleanup(func() { ns.Close() })
				check(t, b.AddPort(ns, Port{Name: name, Device: "eth0", MAC: mac, Addresses: []netip.Prefix{netip.PrefixFrom(a, 24)}}))
				return ns
			}
			eve, bob := join("veve", eveMAC, eve4), join("vbob", bobMAC, bob4)
			l, err := bob.Listen("tcp", &net.TCPAddr{IP: bob4.AsSlice(), Port: 80})
			check(t, err)
			defer l.Close()
			patience := 2 * time.Second
			if tt.reach {
				patience = time.Minute
			}
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			c, err := eve.DialTCP(ctx, Local{}, netip.AddrPortFrom(bob4, 80))
			if (err == nil) != tt.reach {
				t.Errorf("the containers reach each other: %v", err)
			}
			if err == nil {
				c.Close()
			}
			check(t, b.RemovePort("veve"))
			check(t, b.MutePort("vbob"))
			check(t, eve.Do(func() error {
				if _, err := net.InterfaceByName("eth0"); err == nil {
					t.Error("the interface is still there")
				}
				return nil
			}))
		})
	}
}
