package network

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/network"

	"github.com/kelp-engine/kelp/engine/fault"
	"github.com/kelp-engine/kelp/engine/filter"
	"github.com/kelp-engine/kelp/engine/keeper"
)

// fakeKeeper remembers what it was asked to make.
type fakeKeeper struct {
	nets  map[string]keeper.Network
	boxes map[string]keeper.SandboxState
	fail  error // of the next CreateSandbox
}

func (f *fakeKeeper) EnsureNetwork(_ context.Context, n keeper.Network) error {
	f.nets[n.ID] = n
	return nil
}

func (f *fakeKeeper) RemoveNetwork(_ context.Context, id string) error {
	delete(f.nets, id)
	return nil
}

func (f *fakeKeeper) CreateSandbox(_ context.Context, s keeper.Sandbox) (keeper.SandboxState, error) {
	for _, e := range s.Endpoints {
		if _, ok := f.nets[e.NetworkID]; !ok {
			return keeper.SandboxState{}, fault.NotFound("network %s is not there", e.NetworkID)
		}
	}
	if err := f.fail; err != nil {
		f.fail = nil
		return keeper.SandboxState{}, err
	}
	state := keeper.SandboxState{Sandbox: s, Path: "/proc/1/fd/9", Bound: s.Ports}
	f.boxes[s.ID] = state
	return state, nil
}

func (f *fakeKeeper) ReleaseSandbox(_ context.Context, id string) error {
	delete(f.boxes, id)
	return nil
}

func (f *fakeKeeper) ListSandboxes(context.Context) ([]keeper.SandboxState, error) {
	var all []keeper.SandboxState
	for _, b := range f.boxes {
		all = append(all, b)
	}
	return all, nil
}

func (f *fakeKeeper) ConnectEndpoint(context.Context, string, keeper.Endpoint) error { return nil }

func (f *fakeKeeper) DisconnectEndpoint(context.Context, string, string) error { return nil }

func (f *fakeKeeper) RenameEndpoint(context.Context, string, string, []string) error { return nil }

// fakeContainers are containers by id.
type fakeContainers map[string]*Container

func (f fakeContainers) NameOf(id string) string {
	if c := f[id]; c != nil {
		return c.Name
	}
	return ""
}

func (f fakeContainers) Lookup(ref string) *Container { return f[ref] }

func (f fakeContainers) EditNetworks(ctx context.Context, ref string, change func(context.Context, *Container) error) error {
	return change(ctx, f[ref])
}

func (f fakeContainers) UpdateFiles(string, *Attachment, *Attachment) error { return nil }

func (f fakeContainers) UpdateLinks(string, func(string) string) error { return nil }

type noEvents struct{}

func (noEvents) Publish(events.Type, events.Action, string, map[string]string) {}

// setup opens networks in a fresh directory, or again in the same.
type setup struct {
	*Manager
	dir        string
	keeper     *fakeKeeper
	containers fakeContainers
}

func open(t *testing.T, dir string, k *fakeKeeper, c fakeContainers) *setup {
	t.Helper()
	m, err := New(Options{Dir: dir, Sandboxes: k, Bridges: k, Events: noEvents{}})
	check(t, err)
	m.SetContainers(c)
	check(t, m.Recover(t.Context()))
	return &setup{m, dir, k, c}
}

func fresh(t *testing.T) *setup {
	t.Helper()
	return open(t, t.TempDir(), &fakeKeeper{nets: map[string]keeper.Network{}, boxes: map[string]keeper.SandboxState{}}, fakeContainers{})
}

func (s *setup) add(id, name, mode string) *Container {
	c := &Container{ID: id, Name: name, Config: &container.Config{Hostname: id}, HostConfig: &container.HostConfig{NetworkMode: container.NetworkMode(mode)}}
	s.containers[id] = c
	return c
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (s *setup) address(t *testing.T, c *Container, net string) string {
	t.Helper()
	e := s.Settings(c).Networks[net]
	if e == nil {
		t.Fatalf("%s is not on %s", c.Name, net)
	}
	return e.IPAddress.String()
}

func TestPredefinedNetworksStay(t *testing.T) {
	s := fresh(t)
	first, err := s.List(nil)
	check(t, err)
	again := open(t, s.dir, s.keeper, s.containers)
	second, err := again.List(nil)
	check(t, err)
	if len(first) != 3 || len(second) != 3 {
		t.Fatalf("%d networks, then %d", len(first), len(second))
	}
	for i := range first {
		if first[i].ID != second[i].ID {
			t.Errorf("%s has another id after a restart", first[i].Name)
		}
	}
	for _, name := range []string{"bridge", "host", "none"} {
		if err := s.Remove(t.Context(), name); !errors.Is(err, errdefs.ErrPermissionDenied) {
			t.Errorf("removing %s: %v", name, err)
		}
	}
}

func TestCreate(t *testing.T) {
	yes := true
	prefix := netip.MustParsePrefix
	for _, c := range []struct {
		name string
		req  network.CreateRequest
		err  string // part of the error; "" is success
		warn bool
	}{
		{"plain", network.CreateRequest{Name: "reef"}, "", false},
		{"no name", network.CreateRequest{}, "name cannot be empty", false},
		{"bad name", network.CreateRequest{Name: "a b"}, "invalid network name", false},
		{"predefined name", network.CreateRequest{Name: "bridge"}, "operation is not permitted on predefined bridge network", false},
		{"IPv6", network.CreateRequest{Name: "reef", EnableIPv6: &yes}, "", false},
		{"second host", network.CreateRequest{Name: "reef", Driver: "host"}, "only one instance", false},
		{"macvlan", network.CreateRequest{Name: "reef", Driver: "macvlan"}, "", false},
		{"macvlan on the host", network.CreateRequest{Name: "reef", Driver: "macvlan", Options: map[string]string{"parent": "eth0"}}, "ordinary user may not put devices on the host's interface eth0", false},
		{"macvlan in a mode of ipvlan", network.CreateRequest{Name: "reef", Driver: "macvlan", Options: map[string]string{"macvlan_mode": "l2"}}, "unknown value", false},
		{"ipvlan", network.CreateRequest{Name: "reef", Driver: "ipvlan", Options: map[string]string{"ipvlan_mode": "l3", "ipvlan_flag": "private"}}, "", false},
		{"ipvlan with an option of bridges", network.CreateRequest{Name: "reef", Driver: "ipvlan", Options: map[string]string{optICC: "true"}}, "unknown option", false},
		{"unknown driver", network.CreateRequest{Name: "reef", Driver: "weave"}, "plugin", false},
		{"overlay", network.CreateRequest{Name: "reef", Driver: "overlay"}, "not a swarm manager", false},
		{"mtu", network.CreateRequest{Name: "reef", Options: map[string]string{optMTU: "9000"}}, "", false},
		{"bad mtu", network.CreateRequest{Name: "reef", Options: map[string]string{optMTU: "huge"}}, "invalid MTU", false},
		{"no masquerading", network.CreateRequest{Name: "reef", Options: map[string]string{optMasquerade: "false"}}, "must be true", false},
		{"unknown option", network.CreateRequest{Name: "reef", Options: map[string]string{"com.example.x": "1"}}, "unknown option", false},
		{"path as bridge", network.CreateRequest{Name: "reef", Options: map[string]string{optBridgeName: "../x"}}, "invalid device name", false},
		{"IPAM option", network.CreateRequest{Name: "reef", IPAM: &network.IPAM{Options: map[string]string{"a": "b"}}}, "", true},
		{"routed", network.CreateRequest{Name: "reef", Options: map[string]string{optGatewayMode4: "routed"}}, "ordinary user", false},
		{"isolated", network.CreateRequest{Name: "reef", Options: map[string]string{optGatewayMode4: "isolated"}}, "internal network", false},
		{"isolated inside", network.CreateRequest{Name: "reef", Internal: true, Options: map[string]string{optGatewayMode4: "isolated"}}, "", false},
		{"gateway is the network", network.CreateRequest{Name: "reef", IPAM: &network.IPAM{Config: []network.IPAMConfig{{Subnet: prefix("10.9.0.0/24"), Gateway: netip.MustParseAddr("10.9.0.0")}}}}, "failed to allocate gateway (10.9.0.0): Address already in use", false},
		{"auxiliary is the gateway", network.CreateRequest{Name: "reef", IPAM: &network.IPAM{Config: []network.IPAMConfig{{Subnet: prefix("10.9.0.0/24"), AuxAddress: map[string]netip.Addr{"a": netip.MustParseAddr("10.9.0.1")}}}}}, "failed to allocate secondary ip address (a:10.9.0.1)", false},
		{"subnet", network.CreateRequest{Name: "reef", IPAM: &network.IPAM{Config: []network.IPAMConfig{{Subnet: prefix("10.9.0.0/24")}}}}, "", false},
		{"subnet with host bits", network.CreateRequest{Name: "reef", IPAM: &network.IPAM{Config: []network.IPAMConfig{{Subnet: prefix("10.9.0.1/24")}}}}, "it should be 10.9.0.0/24", false},
		{"gateway outside", network.CreateRequest{Name: "reef", IPAM: &network.IPAM{Config: []network.IPAMConfig{{Subnet: prefix("10.9.0.0/24"), Gateway: netip.MustParseAddr("10.8.0.1")}}}}, "doesn't contain", false},
		{"range outside", network.CreateRequest{Name: "reef", IPAM: &network.IPAM{Config: []network.IPAMConfig{{Subnet: prefix("10.9.0.0/24"), IPRange: prefix("10.8.0.0/28")}}}}, "doesn't contain", false},
		{"loopback", network.CreateRequest{Name: "reef", IPAM: &network.IPAM{Config: []network.IPAMConfig{{Subnet: prefix("127.0.0.0/8")}}}}, "invalid subnet", false},
		{"the way out", network.CreateRequest{Name: "reef", IPAM: &network.IPAM{Config: []network.IPAMConfig{{Subnet: prefix("169.254.255.128/25")}}}}, "containers cannot have addresses of 169.254.255.0/24", false},
		{"around loopback", network.CreateRequest{Name: "reef", EnableIPv6: new(true), IPAM: &network.IPAM{Config: []network.IPAMConfig{{Subnet: prefix("::/64")}}}}, "containers cannot have addresses of ::1/128", false},
		{"too small", network.CreateRequest{Name: "reef", IPAM: &network.IPAM{Config: []network.IPAMConfig{{Subnet: prefix("10.9.0.0/31")}}}}, "invalid subnet", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := fresh(t)
			id, warnings, err := s.Create(t.Context(), c.req)
			if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
				t.Fatalf("got %v", err)
			}
			if (len(warnings) > 0) != c.warn {
				t.Errorf("warnings %q", warnings)
			}
			if _, err := open(t, s.dir, s.keeper, s.containers).Inspect("reef"); (err == nil) != (id != "") {
				t.Errorf("on disk: %v", err)
			}
		})
	}
}

func TestAddresses(t *testing.T) {
	s := fresh(t)
	a, b, c := s.add("aaaa", "a", "bridge"), s.add("bbbb", "b", "bridge"), s.add("cccc", "c", "bridge")
	for _, x := range []*Container{a, b} {
		_, err := s.Attach(t.Context(), x)
		check(t, err)
	}
	subnet := s.networksByName()["bridge"].IPAM.Config[0].Subnet
	second, third := subnet.Addr().Next().Next(), subnet.Addr().Next().Next().Next()
	if s.address(t, a, "bridge") != second.String() || s.address(t, b, "bridge") != third.String() {
		t.Fatalf("got %s and %s", s.address(t, a, "bridge"), s.address(t, b, "bridge"))
	}
	check(t, s.Detach(t.Context(), a.ID))
	check(t, s.Detach(t.Context(), a.ID)) // again is no error
	s.keeper.fail = errors.New("no")
	if _, err := s.Attach(t.Context(), c); err == nil {
		t.Fatal("an attachment that failed is none")
	}
	_, err := s.Attach(t.Context(), c)
	check(t, err)
	if got := s.address(t, c, "bridge"); got != third.Next().String() {
		t.Errorf("a container took the address of one at rest: %s", got)
	}
	// Another engine finds what is in use.
	again := open(t, s.dir, s.keeper, s.containers)
	_, err = again.Attach(t.Context(), s.add("dddd", "d", "bridge"))
	check(t, err)
	if got := again.address(t, s.containers["dddd"], "bridge"); got != second.String() {
		t.Errorf("after a restart got %s", got)
	}
	check(t, again.Detach(t.Context(), "dddd"))
	again.Repair(t.Context(), func(id string) bool { return id == c.ID })
	if len(s.keeper.boxes) != 1 {
		t.Errorf("%d sandboxes are left of containers that do not run", len(s.keeper.boxes)-1)
	}
}

func (s *setup) networksByName() map[string]*Record {
	all := map[string]*Record{}
	for _, r := range s.networks {
		all[r.Name] = r
	}
	return all
}

func TestStaticAddresses(t *testing.T) {
	s := fresh(t)
	small := network.CreateRequest{Name: "small", IPAM: &network.IPAM{Config: []network.IPAMConfig{{Subnet: netip.MustParsePrefix("10.9.0.0/29"), AuxAddress: map[string]netip.Addr{"printer": netip.MustParseAddr("10.9.0.2")}}}}}
	_, _, err := s.Create(t.Context(), small)
	check(t, err)
	want := func(ip string) map[string]*network.EndpointSettings {
		return map[string]*network.EndpointSettings{"small": {IPAMConfig: &network.EndpointIPAMConfig{IPv4Address: netip.MustParseAddr(ip)}}}
	}
	for _, c := range []struct{ id, ip, err string }{
		{"a", "10.9.0.5", ""},
		{"b", "10.9.0.5", "Address already in use"},
		{"c", "10.9.0.1", "Address already in use"}, // the gateway
		{"d", "10.9.0.2", "Address already in use"}, // set apart
		{"e", "10.9.1.1", "no configured subnet or ip-range contain the IP address 10.9.1.1"},
	} {
		x := s.add(c.id, c.id, "small")
		x.Endpoints = want(c.ip)
		if _, err := s.Attach(t.Context(), x); (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: %v", c.ip, err)
		}
	}
	for _, id := range []string{"f", "g", "h"} { // .3, .4, .6
		_, err := s.Attach(t.Context(), s.add(id, id, "small"))
		check(t, err)
	}
	if _, err := s.Attach(t.Context(), s.add("i", "i", "small")); err == nil || !strings.Contains(err.Error(), "no available") {
		t.Errorf("a full network gave %v", err)
	}
}

func TestNetworkInUseStays(t *testing.T) {
	s := fresh(t)
	_, _, err := s.Create(t.Context(), network.CreateRequest{Name: "used", Labels: map[string]string{"keep": ""}})
	check(t, err)
	web := s.add("aaaa", "web", "used")
	_, err = s.Attach(t.Context(), web)
	check(t, err)
	if err := s.Remove(t.Context(), "used"); !errors.Is(err, errdefs.ErrPermissionDenied) || !strings.Contains(err.Error(), `active endpoints (name:"web"`) {
		t.Errorf("got %v", err)
	}
	check(t, s.Detach(t.Context(), web.ID))
	report, err := s.Prune(t.Context(), filter.Args{"label!": {"keep"}})
	check(t, err)
	if len(report.NetworksDeleted) != 0 {
		t.Error("pruned what has the label")
	}
	report, err = s.Prune(t.Context(), nil)
	check(t, err)
	if !slices.Equal(report.NetworksDeleted, []string{"used"}) || len(s.keeper.nets) != 0 {
		t.Errorf("pruned %v, the keeper has %d", report.NetworksDeleted, len(s.keeper.nets))
	}
}

func TestJoinedContainerHasTheOthersFiles(t *testing.T) {
	s := fresh(t)
	_, _, err := s.Create(t.Context(), network.CreateRequest{Name: "blue"})
	check(t, err)
	web := s.add("aaaa", "web", "blue")
	want, err := s.Attach(t.Context(), web)
	check(t, err)
	got, err := s.Attach(t.Context(), s.add("bbbb", "side", "container:aaaa"))
	check(t, err)
	if got.Sandbox != "" || string(got.Hosts) != string(want.Hosts) || string(got.ResolvConf) != string(want.ResolvConf) || string(got.Hostname) != "aaaa\n" {
		t.Errorf("got %+v", got)
	}
}

func TestConnectAndDisconnect(t *testing.T) {
	s := fresh(t)
	for _, n := range []string{"red", "blue"} {
		_, _, err := s.Create(t.Context(), network.CreateRequest{Name: n})
		check(t, err)
	}
	web := s.add("aaaa", "web", "blue")
	_, err := s.Attach(t.Context(), web)
	check(t, err)
	check(t, s.Connect(t.Context(), "red", network.ConnectRequest{Container: "aaaa", EndpointConfig: &network.EndpointSettings{Aliases: []string{"shop"}}}))
	if names := s.Settings(web).Networks["red"].DNSNames; !slices.Equal(names, []string{"web", "shop", "aaaa"}) {
		t.Errorf("names %v", names)
	}
	if err := s.Connect(t.Context(), "red", network.ConnectRequest{Container: "aaaa"}); err == nil {
		t.Error("connected twice")
	}
	for _, n := range []string{"blue", "red"} {
		check(t, s.Disconnect(t.Context(), n, network.DisconnectRequest{Container: "aaaa"}))
	}
	if err := s.Disconnect(t.Context(), "red", network.DisconnectRequest{Container: "aaaa"}); err == nil {
		t.Error("disconnected twice")
	}
	check(t, s.Detach(t.Context(), web.ID))
	_, err = s.Attach(t.Context(), web)
	check(t, err)
	if n := len(s.keeper.boxes[web.ID].Endpoints); n != 0 {
		t.Errorf("a container that was taken off its networks has %d endpoints after its restart", n)
	}
}
