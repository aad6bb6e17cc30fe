package network

import (
	"errors"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/network"
)

// withConfiguration has the configuration network "conf".
func withConfiguration(t *testing.T) *setup {
	t.Helper()
	s := fresh(t)
	yes := true
	_, _, err := s.Create(t.Context(), network.CreateRequest{
		Name: "conf", ConfigOnly: true, EnableIPv6: &yes,
		Labels: map[string]string{"reef": "north"}, Options: map[string]string{optMTU: "1400"},
		IPAM: &network.IPAM{Config: []network.IPAMConfig{{Subnet: netip.MustParsePrefix("10.9.0.0/24")}}},
	})
	check(t, err)
	return s
}

func from(name string) *network.ConfigReference { return &network.ConfigReference{Network: name} }

func TestConfigurationNetworkIsARecordAlone(t *testing.T) {
	s := withConfiguration(t)
	s = open(t, s.dir, s.keeper, s.containers)
	n, err := s.Inspect("conf")
	check(t, err)
	want := []network.IPAMConfig{{Subnet: netip.MustParsePrefix("10.9.0.0/24")}}
	if !n.ConfigOnly || n.Driver != "null" || n.Scope != "local" || !n.EnableIPv6 || !reflect.DeepEqual(n.IPAM.Config, want) || n.Status != nil {
		t.Errorf("it is shown as %+v", n)
	}
	if err := s.Connect(t.Context(), "conf", network.ConnectRequest{Container: s.add("aaaa", "web", "bridge").ID}); !errors.Is(err, errdefs.ErrPermissionDenied) {
		t.Errorf("connecting gave %v", err)
	}
	on := s.add("bbbb", "db", "conf")
	if _, err := s.Check(on); err != nil { // as in Docker, the start says so
		t.Errorf("making a container on it gave %v", err)
	}
	if _, err := s.Attach(t.Context(), on); !errors.Is(err, errdefs.ErrPermissionDenied) {
		t.Errorf("starting a container on it gave %v", err)
	}
	if len(s.keeper.nets) != 0 {
		t.Error("the keeper made it")
	}
}

func TestNetworkFromConfiguration(t *testing.T) {
	s := withConfiguration(t)
	for _, name := range []string{"one", "two"} {
		_, _, err := s.Create(t.Context(), network.CreateRequest{Name: name, ConfigFrom: from("conf"), Internal: true, IPAM: &network.IPAM{Driver: "default"}})
		check(t, err)
	}
	s = open(t, s.dir, s.keeper, s.containers)
	n, err := s.Inspect("two")
	check(t, err)
	if n.ConfigFrom.Network != "conf" || n.ConfigOnly || n.Driver != "bridge" || !n.Internal || !n.EnableIPv4 || !n.EnableIPv6 ||
		n.Labels["reef"] != "north" || !maps.Equal(n.Options, map[string]string{optMTU: "1400"}) {
		t.Errorf("it is shown as %+v", n)
	}
	if c := n.IPAM.Config; len(c) != 2 || c[0].Subnet.String() != "10.9.0.0/24" || c[0].Gateway.String() != "10.9.0.1" {
		t.Errorf("it has the addresses %v", c)
	}
	for _, left := range []string{"one", "two"} {
		err := s.Remove(t.Context(), "conf")
		if !errors.Is(err, errdefs.ErrPermissionDenied) || !strings.Contains(err.Error(), `configuration network "conf" is in use`) {
			t.Errorf("removing it while %s is left gave %v", left, err)
		}
		check(t, s.Remove(t.Context(), left))
	}
	report, err := s.Prune(t.Context(), nil)
	check(t, err)
	if slices.Contains(report.NetworksDeleted, "conf") {
		t.Error("it was pruned")
	}
	check(t, s.Remove(t.Context(), "conf"))
}

func TestWhatConfigurationNetworksRefuse(t *testing.T) {
	yes, no := true, false
	pool := &network.IPAM{Config: []network.IPAMConfig{{Subnet: netip.MustParsePrefix("10.8.0.0/24")}}}
	const itself, operator = "user specified configurations are not supported", "can only contain network specific fields"
	for name, c := range map[string]struct {
		req   network.CreateRequest
		class error
		text  string
	}{
		"internal":         {network.CreateRequest{ConfigOnly: true, Internal: true}, errdefs.ErrPermissionDenied, operator},
		"attachable":       {network.CreateRequest{ConfigOnly: true, Attachable: true}, errdefs.ErrPermissionDenied, operator},
		"scope":            {network.CreateRequest{ConfigOnly: true, Scope: "local"}, errdefs.ErrPermissionDenied, operator},
		"bad subnet":       {network.CreateRequest{ConfigOnly: true, IPAM: &network.IPAM{Config: []network.IPAMConfig{{Subnet: netip.MustParsePrefix("10.8.0.1/24")}}}}, errdefs.ErrInvalidArgument, "it should be"},
		"unknown driver":   {network.CreateRequest{ConfigOnly: true, Driver: "weave"}, errdefs.ErrNotFound, "plugin"},
		"chain":            {network.CreateRequest{ConfigOnly: true, ConfigFrom: from("conf")}, errdefs.ErrPermissionDenied, "cannot depend on another"},
		"none":             {network.CreateRequest{ConfigFrom: from("nothing")}, errdefs.ErrNotFound, `configuration network "nothing" does not exist`},
		"no configuration": {network.CreateRequest{ConfigFrom: from("bridge")}, errdefs.ErrNotFound, "does not exist"},
		"own subnet":       {network.CreateRequest{ConfigFrom: from("conf"), IPAM: pool}, errdefs.ErrPermissionDenied, itself},
		"own IPAM driver":  {network.CreateRequest{ConfigFrom: from("conf"), IPAM: &network.IPAM{Driver: "weave"}}, errdefs.ErrPermissionDenied, itself},
		"own label":        {network.CreateRequest{ConfigFrom: from("conf"), Labels: map[string]string{"a": "b"}}, errdefs.ErrPermissionDenied, itself},
		"IPv4":             {network.CreateRequest{ConfigFrom: from("conf"), EnableIPv4: &no}, errdefs.ErrPermissionDenied, itself},
		"IPv6":             {network.CreateRequest{ConfigFrom: from("conf"), EnableIPv6: &yes}, errdefs.ErrPermissionDenied, itself},
		"own option":       {network.CreateRequest{ConfigFrom: from("conf"), Options: map[string]string{optMTU: "1300"}}, errdefs.ErrPermissionDenied, "driver options are not supported"},
		"another driver's": {network.CreateRequest{ConfigFrom: from("vlan"), Driver: "bridge"}, errdefs.ErrInvalidArgument, "unknown option"},
	} {
		t.Run(name, func(t *testing.T) {
			s := withConfiguration(t)
			_, _, err := s.Create(t.Context(), network.CreateRequest{Name: "vlan", ConfigOnly: true, Driver: "null", Options: map[string]string{optMacvlanMode: "private"}})
			check(t, err)
			c.req.Name = "reef"
			if _, _, err := s.Create(t.Context(), c.req); !errors.Is(err, c.class) || !strings.Contains(err.Error(), c.text) {
				t.Errorf("got %v", err)
			}
			if _, err := open(t, s.dir, s.keeper, s.containers).Inspect("reef"); err == nil {
				t.Error("it is on disk")
			}
		})
	}
}
