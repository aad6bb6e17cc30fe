package network

import (
	"encoding/json"
	"net/netip"
	"testing"

	"github.com/moby/moby/api/types/network"
)

// FuzzRecord reads whatever lies on disk as a network, and uses it.
func FuzzRecord(f *testing.F) {
	whole := newRecord("reef", driverBridge)
	whole.EnableIPv4, whole.EnableIPv6 = true, true
	whole.IPAM.Config = []network.IPAMConfig{
		{Subnet: netip.MustParsePrefix("10.9.0.0/29"), Gateway: netip.MustParseAddr("10.9.0.1"), IPRange: netip.MustParsePrefix("10.9.0.4/30")},
		{Subnet: netip.MustParsePrefix("fd00::/64"), Gateway: netip.MustParseAddr("fd00::1")},
	}
	b, err := json.Marshal(whole)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(`{}`))
	f.Add([]byte(`{"name":"a","driver":"bridge","ipam":{"Config":[{"IPRange":"0.0.0.0/0"}]}}`))
	f.Add([]byte(`{"name":"a","driver":"bridge","ipam":{"Config":[{"Subnet":"0.0.0.0/0"},{"Subnet":"::/0","IPRange":"::/128"}]}}`))
	f.Add([]byte(`{"name":"a","driver":"bridge","ipam":{"Config":[{"Subnet":"10.0.0.0/31","Gateway":"::1","AuxiliaryAddresses":{"a":"10.0.0.0"}}]},"options":{"com.docker.network.driver.mtu":"x"}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var r Record
		if json.Unmarshal(b, &r) != nil || r.check(r.ID) != nil {
			return
		}
		p := pool{map[string]leases{}}
		m := &table{networks: map[string]*Record{r.ID: &r}, pool: p}
		r.api()
		r.keeper()
		r.gateway(true)
		if _, err := m.freeSubnet(false); err != nil && len(r.IPAM.Config) == 0 {
			t.Errorf("no subnet is free: %v", err)
		}
		use(t, &p, &r)
	})
}

// use takes a few addresses of each subnet and holds that they are different
// ones, in the subnet, and none that is set apart.
func use(t *testing.T, p *pool, r *Record) {
	t.Helper()
	seen := map[netip.Addr]bool{}
	for _, c := range r.IPAM.Config {
		for range 5 {
			got, err := p.allocate(r, c, netip.Addr{}, &Container{ID: "c"})
			if err != nil {
				break
			}
			a := got.Addr()
			if seen[a] || !within(c).Contains(a) || reserved(c, a) {
				t.Errorf("%s of %+v was given out", a, c)
			}
			seen[a] = true
			p.take(r.ID, "c", []netip.Addr{a})
		}
	}
}

// FuzzSubnet makes networks of whatever a client asks for.
func FuzzSubnet(f *testing.F) {
	f.Add("10.9.0.0/24", "10.9.0.0/28", "10.9.0.1", "10.9.0.9", "10.9.0.7")
	f.Add("fd00::/64", "", "", "", "fd00::9")
	f.Add("::ffff:10.0.0.0/104", "::ffff:10.0.0.0/110", "::ffff:10.0.0.1", "", "")
	f.Add("0.0.0.0/1", "::/0", "1.2.3.4", "%", "10.0.0.0")
	f.Add("10.0.0.0/30", "10.0.0.3/32", "10.0.0.2", "10.0.0.1", "10.0.0.3")
	f.Fuzz(func(t *testing.T, subnet, within, gateway, aux, want string) {
		var c network.IPAMConfig
		c.Subnet, _ = netip.ParsePrefix(subnet)
		c.IPRange, _ = netip.ParsePrefix(within)
		c.Gateway, _ = netip.ParseAddr(gateway)
		if a, err := netip.ParseAddr(aux); err == nil {
			c.AuxAddress = map[string]netip.Addr{"aux": a}
		}
		yes := true
		m := &table{networks: map[string]*Record{}, pool: pool{map[string]leases{}}}
		r := newRecord("reef", driverBridge)
		r.EnableIPv4, r.EnableIPv6 = yes, yes
		if _, err := m.chooseSubnets(r, &network.IPAM{Config: []network.IPAMConfig{c}}); err != nil {
			return
		}
		for _, c := range r.IPAM.Config {
			if !c.Subnet.IsValid() || c.Subnet != c.Subnet.Masked() || c.Gateway.IsValid() && !c.Subnet.Contains(c.Gateway) {
				t.Errorf("accepted %+v", c)
			}
		}
		use(t, &m.pool, r)
		if a, err := netip.ParseAddr(want); err == nil {
			if got, err := m.allocate(r, r.IPAM.Config[0], a, &Container{ID: "d"}); err == nil && (got.Addr() != a || !r.IPAM.Config[0].Subnet.Contains(a)) {
				t.Errorf("asked for %s, got %s of %+v", a, got, r.IPAM.Config[0])
			}
		}
	})
}

// FuzzBinding parses whatever a client publishes.
func FuzzBinding(f *testing.F) {
	for _, s := range []string{"", "80", "80-90", "90-80", "-", "0-0", "65536", " 80", "+80", "80-", "1-65535"} {
		f.Add("80/tcp", s, "")
		f.Add("0/udp", s, "127.0.0.1")
	}
	f.Add("80/icmp", "80", "fe80::1%eth0")
	f.Fuzz(func(t *testing.T, port, hostPort, hostIP string) {
		p, err := network.ParsePort(port)
		if err != nil {
			return
		}
		b := network.PortBinding{HostPort: hostPort}
		b.HostIP, _ = netip.ParseAddr(hostIP)
		got, err := parseBinding(p, b)
		if err == nil && (got.ContainerPort == 0 || got.HostPortEnd != 0 && got.HostPortEnd < got.HostPort) {
			t.Errorf("%s %+v became %+v", port, b, got)
		}
	})
}

// FuzzEndpointSysctls parses whatever a client sets on an interface.
func FuzzEndpointSysctls(f *testing.F) {
	f.Add("net.ipv4.conf.IFNAME.log_martians=1,net.ipv6.conf.IFNAME.accept_ra=2")
	f.Add("net.ipv4.conf.IFNAME.../../../kernel=1")
	f.Add(",=,")
	f.Fuzz(func(_ *testing.T, text string) { _, _ = endpointSysctls(text) })
}
