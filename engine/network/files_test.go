package network

import (
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"

	"github.com/kelp-engine/kelp/engine/keeper"
)

func TestHostsFile(t *testing.T) {
	c := &Container{
		Config:     &container.Config{Hostname: "web", Domainname: "example.com"},
		HostConfig: &container.HostConfig{ExtraHosts: []string{"db:10.1.2.3", "six=[2001:db8::1]", "host.docker.internal:host-gateway"}},
	}
	endpoints := []keeper.Endpoint{{Addresses: []netip.Prefix{netip.MustParsePrefix("172.17.0.2/16"), netip.MustParsePrefix("fd00::2/64")}}}
	got := string(hostsFile(c, endpoints, []hostLine{{netip.MustParseAddr("172.17.0.9"), []string{"cache", "redis"}}}))
	want := defaultHosts +
		"10.1.2.3\tdb\n2001:db8::1\tsix\n169.254.255.254\thost.docker.internal\n" +
		"172.17.0.9\tcache redis\n" +
		"172.17.0.2\tweb.example.com web\nfd00::2\tweb.example.com web\n"
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if !asksForHost(c) {
		t.Error("the container asks for the host")
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
		{"sctp", container.HostConfig{PortBindings: network.PortMap{network.MustParsePort("80/sctp"): {{}}}}, nil, "tcp and udp"},
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

func TestSubnets(t *testing.T) {
	s := fresh(t)
	var got []string
	for range 20 {
		p, err := s.freeSubnet()
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
