package network

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/moby/moby/api/types/network"

	"github.com/kelp-engine/kelp/engine/fault"
	"github.com/kelp-engine/kelp/engine/keeper"
)

// start attaches a container and notes in it what its record would hold.
func (s *setup) start(t *testing.T, c *Container) {
	t.Helper()
	a, err := s.Attach(t.Context(), c)
	check(t, err)
	c.Addresses, c.HostPorts = a.Addresses, a.HostPorts
}

// reopen is another engine with another keeper: nothing is live.
func (s *setup) reopen(t *testing.T) *setup {
	t.Helper()
	k := &fakeKeeper{nets: map[string]keeper.Network{}, boxes: map[string]keeper.SandboxState{}}
	again := open(t, s.dir, k, s.containers)
	for _, c := range s.containers {
		again.Adopt(c)
	}
	return again
}

func subnet(t *testing.T, s *setup, name, prefix string) {
	t.Helper()
	_, _, err := s.Create(t.Context(), network.CreateRequest{Name: name, IPAM: &network.IPAM{Config: []network.IPAMConfig{{Subnet: netip.MustParsePrefix(prefix)}}}})
	check(t, err)
}

func TestContainersKeepTheirAddressesOverTheKeepersDeath(t *testing.T) {
	s := fresh(t)
	subnet(t, s, "reef", "10.9.0.0/24")
	a, b, static := s.add("a", "a", "reef"), s.add("b", "b", "reef"), s.add("c", "c", "reef")
	static.Endpoints = map[string]*network.EndpointSettings{"reef": {IPAMConfig: &network.EndpointIPAMConfig{IPv4Address: netip.MustParseAddr("10.9.0.2")}}}
	s.Adopt(static)
	s.start(t, a)
	s.start(t, b)
	again := s.reopen(t)
	for _, c := range []*Container{s.add("new", "new", "reef"), b, static, a} { // in another order, and with one more
		again.start(t, c)
	}
	for name, want := range map[string]string{"a": "10.9.0.3", "b": "10.9.0.4", "c": "10.9.0.2", "new": "10.9.0.5"} {
		if got := again.address(t, s.containers[name], "reef"); got != want {
			t.Errorf("%s has %s, want %s", name, got, want)
		}
	}
}

func TestTheLastAddressIsThatOfAContainerAtRest(t *testing.T) {
	s := fresh(t)
	subnet(t, s, "small", "10.9.0.0/30") // one container
	a, b := s.add("a", "a", "small"), s.add("b", "b", "small")
	s.start(t, a)
	if _, err := s.Attach(t.Context(), b); err == nil {
		t.Fatal("two containers have the one address")
	}
	check(t, s.Detach(t.Context(), "a"))
	s.start(t, b)
	if _, err := s.Attach(t.Context(), a); err == nil {
		t.Fatal("two containers have the one address")
	}
	check(t, s.Detach(t.Context(), "b"))
	s.Forget("b")
	s.start(t, a)
}

func TestChosenPortsStay(t *testing.T) {
	s := fresh(t)
	c := s.add("a", "a", "bridge")
	c.HostConfig.PortBindings = network.PortMap{
		network.MustParsePort("80/tcp"): {{}, {HostPort: "7000-7009"}},
		network.MustParsePort("53/udp"): {{HostIP: netip.MustParseAddr("127.0.0.1")}},
		network.MustParsePort("22/tcp"): {{HostPort: "2222"}},
	}
	any4, any6 := netip.IPv4Unspecified(), netip.IPv6Unspecified()
	c.HostPorts = []keeper.Port{
		{Proto: "tcp", HostIP: any4, HostPort: 40001, ContainerPort: 80},
		{Proto: "tcp", HostIP: any6, HostPort: 40001, ContainerPort: 80},
		{Proto: "tcp", HostIP: any4, HostPort: 7003, ContainerPort: 80},
		{Proto: "udp", HostIP: netip.MustParseAddr("127.0.0.1"), HostPort: 40002, ContainerPort: 53},
		{Proto: "tcp", HostIP: any4, HostPort: 2222, ContainerPort: 22},
	}
	s.start(t, c)
	got := map[uint16]uint16{}
	for _, p := range s.keeper.boxes["a"].Ports {
		got[p.HostPort] = p.Preferred
		if p.Proto == "udp" && p.Preferred != 40002 {
			t.Errorf("the UDP port prefers %d", p.Preferred)
		}
	}
	if got[7000] != 7003 || got[2222] != 0 {
		t.Errorf("preferred ports: %v", got)
	}
}

// An engine that died between the keeper's work and its own record.
func TestRepair(t *testing.T) {
	s := fresh(t)
	for _, n := range []string{"red", "blue", "green"} {
		_, _, err := s.Create(t.Context(), network.CreateRequest{Name: n})
		check(t, err)
	}
	c := s.add("aaaa", "web", "red")
	s.start(t, c)
	before := *c
	check(t, s.Connect(t.Context(), "blue", network.ConnectRequest{Container: "aaaa"}))
	c.Endpoints, c.Addresses = before.Endpoints, before.Addresses // not saved
	again := open(t, s.dir, s.keeper, s.containers)
	again.Repair(t.Context(), func(string) bool { return true })
	if on := again.onNetworks("aaaa"); !slices.Equal(on, []string{"red"}) {
		t.Errorf("after a connect that was cut short the container is on %v", on)
	}
	c.Endpoints = map[string]*network.EndpointSettings{"red": {}, "green": {}}
	again.Repair(t.Context(), func(string) bool { return true })
	if on := again.onNetworks("aaaa"); !slices.Equal(on, []string{"green", "red"}) {
		t.Errorf("after a disconnect that was cut short the container is on %v", on)
	}
	if len(c.Addresses) != 2 {
		t.Errorf("its record has the addresses %v", c.Addresses)
	}
	again.Repair(t.Context(), func(string) bool { return false })
	if len(s.keeper.boxes) != 0 {
		t.Error("the sandbox of a container that does not run is left")
	}
}

func (s *setup) onNetworks(id string) []string {
	var names []string
	for _, e := range s.attached[id].state.Endpoints {
		names = append(names, s.networks[e.NetworkID].Name)
	}
	slices.Sort(names)
	return names
}

func TestExhaustedPoolsSayWhatToDo(t *testing.T) {
	s := fresh(t)
	s.o.Defaults.Pools = []Pool{{netip.MustParsePrefix("10.200.0.0/23"), 24}}
	for _, name := range []string{"one", "two"} {
		_, _, err := s.Create(t.Context(), network.CreateRequest{Name: name})
		check(t, err)
	}
	_, _, err := s.Create(t.Context(), network.CreateRequest{Name: "three"})
	if err == nil || !strings.Contains(err.Error(), "fully subnetted") || !strings.Contains(fault.HintOf(err), "default-address-pools") {
		t.Errorf("got %v with the hint %q", err, fault.HintOf(err))
	}
	check(t, s.Remove(t.Context(), "one"))
	_, _, err = s.Create(t.Context(), network.CreateRequest{Name: "three"})
	check(t, err)
}
