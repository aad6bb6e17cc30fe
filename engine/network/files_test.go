package network

import (
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"

	"github.com/kelp-engine/kelp/engine/keeper"
)

func TestHostsFile(t *testing.T) {
	c := &Container{
		Config:     &container.Config{Hostname: "web", Domainname: "example.com"},
		HostConfig: &container.HostConfig{ExtraHosts: []string{"db:10.1.2.3", "six=[2001:db8::1]", "host.docker.internal:host-gateway"}},
	}
	own := []netip.Addr{netip.MustParseAddr("172.17.0.2"), netip.MustParseAddr("fd00::2")}
	got := string(hostsFile(c, own, []hostLine{{netip.MustParseAddr("172.17.0.9"), []string{"cache", "redis"}}}))
	want := defaultHosts +
		"10.1.2.3\tdb\n2001:db8::1\tsix\n169.254.255.254\thost.docker.internal\nfd6b:656c:7000::fffe\thost.docker.internal\n" +
		"172.17.0.9\tcache redis\n" +
		"172.17.0.2\tweb.example.com web\nfd00::2\tweb.example.com web\n"
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if !asksForHost(c) {
		t.Error("the container asks for the host")
	}
}

func TestBadExtraHosts(t *testing.T) {
	for text, want := range map[string]string{
		"db":                        "bad format for add-host",
		":10.0.0.1":                 "bad format for add-host",
		"a b:10.0.0.1":              "bad format for add-host",
		"a\n10.0.0.9 bank:10.0.0.1": "bad format for add-host",
		"db:":                       "invalid IP address in add-host",
		"db:10.0.0.999":             "invalid IP address in add-host",
		"db:10.0.0.1\n10.0.0.9 a":   "invalid IP address in add-host",
		"db:fe80::1%eth0":           "invalid IP address in add-host",
	} {
		c := &Container{Config: &container.Config{}, HostConfig: &container.HostConfig{NetworkMode: "host", ExtraHosts: []string{text}}}
		if _, err := new(Manager).Check(c); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", text, err, want)
		}
		if got := string(hostsFile(c, nil, nil)); got != defaultHosts {
			t.Errorf("%q writes\n%s", text, got)
		}
	}
}

func TestBadLinks(t *testing.T) {
	s := fresh(t)
	c := s.add("db", "db", "bridge")
	for link, want := range map[string]string{
		"db":                  "",
		"/db:/web/store":      "",
		"db:":                 "bad format for links",
		"db:a b":              "bad format for links",
		"db:a\n10.0.0.9 bank": "bad format for links",
		"nobody:a":            "could not get container for nobody",
	} {
		c.HostConfig.Links = []string{link}
		if _, err := s.Check(c); want == "" && err != nil || want != "" && (!errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: got %v, want %q", link, err, want)
		}
	}
}

func TestResolvConf(t *testing.T) {
	for _, c := range []struct {
		name        string
		host        container.HostConfig
		userDefined bool
		want        []string
	}{
		{"default network", container.HostConfig{}, false, []string{"nameserver 127.0.0.11"}},
		{"default network, own server", container.HostConfig{DNS: []netip.Addr{netip.MustParseAddr("9.9.9.9")}}, false, []string{"nameserver 9.9.9.9"}},
		{"own server", container.HostConfig{DNS: []netip.Addr{netip.MustParseAddr("9.9.9.9")}}, true, []string{"nameserver 127.0.0.11", "options ndots:0"}},
		{"search and options", container.HostConfig{DNSSearch: []string{"a.example", "b.example"}, DNSOptions: []string{"ndots:3"}}, true, []string{"nameserver 127.0.0.11", "search a.example b.example", "options ndots:3"}},
		{"empty words, as in Docker's example", container.HostConfig{DNSSearch: []string{""}, DNSOptions: []string{""}}, false, []string{"# Written by kelp.\n\nnameserver 127.0.0.11"}},
		{"no search", container.HostConfig{DNSSearch: []string{"."}, DNSOptions: []string{"rotate"}}, false, []string{"nameserver 127.0.0.11", "options rotate"}},
	} {
		got, err := resolvFile(&Container{Config: &container.Config{}, HostConfig: &c.host}, c.userDefined)
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range c.want {
			if !strings.Contains(string(got), line+"\n") {
				t.Errorf("%s: %q is missing in\n%s", c.name, line, got)
			}
		}
	}
}

func TestBadResolvers(t *testing.T) {
	for _, c := range []struct {
		host container.HostConfig
		want string
	}{
		{container.HostConfig{DNS: []netip.Addr{{}}}, "invalid IP address in dns"},
		{container.HostConfig{DNS: []netip.Addr{netip.MustParseAddr("fe80::1").WithZone("eth0\nsearch bank")}}, "invalid IP address in dns"},
		{container.HostConfig{DNSSearch: []string{"a.example", "b.example\nnameserver 192.0.2.1"}}, "invalid domain in dns-search"},
		{container.HostConfig{DNSSearch: []string{"a.example b.example"}}, "invalid domain in dns-search"},
		{container.HostConfig{DNSOptions: []string{"ndots:1\nnameserver 192.0.2.1"}}, "invalid option in dns-option"},
		{container.HostConfig{DNSOptions: []string{"ndots:1\trotate"}}, "invalid option in dns-option"},
	} {
		for _, mode := range []container.NetworkMode{"none", "host", "bridge"} {
			c.host.NetworkMode = mode
			_, err := new(Manager).Check(&Container{Config: &container.Config{}, HostConfig: &c.host})
			if !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: got %v, want %q", mode, err, c.want)
			}
		}
		d := Defaults{DNS: c.host.DNS, DNSSearch: c.host.DNSSearch, DNSOptions: c.host.DNSOptions}
		if err := d.Check(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("defaults: got %v, want %q", err, c.want)
		}
	}
}

func TestPorts(t *testing.T) {
	tcp80, udp53 := network.MustParsePort("80/tcp"), network.MustParsePort("53/udp")
	any, local := netip.Addr{}, netip.MustParseAddr("127.0.0.1")
	for _, c := range []struct {
		name string
		host container.HostConfig
		want []keeper.Port
		err  string
	}{
		{"chosen", container.HostConfig{PortBindings: network.PortMap{tcp80: {{}}}}, []keeper.Port{{Proto: "tcp", HostIP: any, ContainerPort: 80}}, ""},
		{
			"fixed before chosen",
			container.HostConfig{PortBindings: network.PortMap{tcp80: {{}}, udp53: {{HostIP: local, HostPort: "5353"}}}},
			[]keeper.Port{{Proto: "udp", HostIP: local, HostPort: 5353, ContainerPort: 53}, {Proto: "tcp", ContainerPort: 80}},
			"",
		},
		{"range", container.HostConfig{PortBindings: network.PortMap{tcp80: {{HostPort: "8000-8010"}}}}, []keeper.Port{{Proto: "tcp", HostPort: 8000, HostPortEnd: 8010, ContainerPort: 80}}, ""},
		{"all exposed", container.HostConfig{PublishAllPorts: true}, []keeper.Port{{Proto: "udp", ContainerPort: 53}, {Proto: "tcp", ContainerPort: 80}}, ""},
		{"backward range", container.HostConfig{PortBindings: network.PortMap{tcp80: {{HostPort: "80-70"}}}}, nil, "invalid range"},
		{"no number", container.HostConfig{PortBindings: network.PortMap{tcp80: {{HostPort: "http"}}}}, nil, "invalid host port"},
		{"too high", container.HostConfig{PortBindings: network.PortMap{tcp80: {{HostPort: "65536"}}}}, nil, "invalid host port"},
	} {
		got, err := ports(&Container{Config: &container.Config{ExposedPorts: network.PortSet{tcp80: {}, udp53: {}}}, HostConfig: &c.host}, nil)
		if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: %v", c.name, err)
		}
		if !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: got %+v, want %+v", c.name, got, c.want)
		}
	}
}

func TestPortOfAProtocolThatTheKernelLacks(t *testing.T) {
	_, err := parseBinding(network.MustParsePort("80/sctp"), network.PortBinding{})
	if has := kernelHasSCTP(); has != (err == nil) || !has && !strings.Contains(err.Error(), "this kernel has no SCTP") {
		t.Errorf("%v, %v", has, err)
	}
}

func TestSubnets(t *testing.T) {
	s := fresh(t)
	var got []string
	for range 20 {
		p, err := s.freeSubnet(false)
		check(t, err)
		for _, other := range s.networks {
			for _, c := range other.IPAM.Config {
				if c.Subnet.Overlaps(p) {
					t.Fatalf("%s overlaps %s", p, c.Subnet)
				}
			}
		}
		r := newRecord(p.String(), driverBridge)
		r.IPAM.Config = []network.IPAMConfig{{Subnet: p}}
		s.networks[r.ID] = r
		got = append(got, p.String())
	}
	if last := got[len(got)-1]; !strings.HasPrefix(last, "192.168.") {
		t.Errorf("the second pool was not used: %v", got)
	}
	if a := last(netip.MustParsePrefix("10.0.0.0/30")); a.String() != "10.0.0.3" {
		t.Errorf("the last address is %s", a)
	}
}

func TestPools(t *testing.T) {
	prefix := netip.MustParsePrefix
	for _, c := range []struct {
		name string
		pool Pool
		used []string
		want string // "" is none
	}{
		{"fresh", Pool{prefix("10.0.0.0/8"), 24}, nil, "10.0.0.0/24"},
		{"after one", Pool{prefix("10.0.0.0/8"), 24}, []string{"10.0.0.0/24"}, "10.0.1.0/24"},
		{"after a part of one", Pool{prefix("10.0.0.0/8"), 24}, []string{"10.0.0.64/30"}, "10.0.1.0/24"},
		{"after a large one", Pool{prefix("10.0.0.0/8"), 24}, []string{"10.0.0.0/10", "10.64.0.0/16"}, "10.65.0.0/24"},
		{"full", Pool{prefix("10.0.0.0/24"), 25}, []string{"10.0.0.0/25", "10.0.0.128/25"}, ""},
		{"all taken at once", Pool{prefix("fd00::/8"), 64}, []string{"fc00::/7"}, ""},
		{"to the last address", Pool{prefix("255.255.255.0/24"), 25}, []string{"255.255.255.0/24"}, ""},
	} {
		var used []netip.Prefix
		for _, u := range c.used {
			used = append(used, prefix(u))
		}
		if got, ok := c.pool.free(used); ok != (c.want != "") || ok && got.String() != c.want {
			t.Errorf("%s: %s", c.name, got)
		}
	}
}

func TestDefaultBridgeFollowsTheConfiguration(t *testing.T) {
	s := fresh(t)
	before, err := s.Inspect("bridge")
	check(t, err)
	again := func(d Defaults) network.Inspect {
		check(t, d.Check())
		m, err := New(Options{Dir: s.dir, Sandboxes: s.keeper, Bridges: s.keeper, Events: noEvents{}, Defaults: d})
		check(t, err)
		n, err := m.Inspect("bridge")
		check(t, err)
		if n.ID != before.ID {
			t.Error("the default bridge is another one")
		}
		return n
	}
	off := false
	chosen := again(Defaults{
		Bridge: netip.MustParsePrefix("10.7.0.1/16"), Within: netip.MustParsePrefix("10.7.9.0/24"), IPv6: true,
		MTU: 1400, ICC: &off, HostIP: netip.MustParseAddr("127.0.0.1"),
	})
	if c := chosen.IPAM.Config[0]; c.Subnet.String() != "10.7.0.0/16" || c.Gateway.String() != "10.7.0.1" || c.IPRange.String() != "10.7.9.0/24" {
		t.Errorf("%+v", c)
	}
	if o := chosen.Options; len(chosen.IPAM.Config) != 2 || o[optMTU] != "1400" || o[optICC] != "false" || o[optHostBinding] != "127.0.0.1" {
		t.Errorf("%+v", chosen)
	}
	if back := again(Defaults{}); len(back.IPAM.Config) != 1 || back.IPAM.Config[0].Subnet.String() != "10.7.0.0/16" || back.IPAM.Config[0].IPRange.IsValid() || back.Options[optMTU] != "1500" {
		t.Errorf("%+v", back)
	}
	if kept := again(Defaults{}); !reflect.DeepEqual(kept.IPAM, again(Defaults{}).IPAM) {
		t.Errorf("%+v", kept)
	}
}
