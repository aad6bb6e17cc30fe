package network

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"

	"github.com/moby/moby/api/types/network"

	"github.com/kelp-engine/kelp/engine/fault"
)

// Defaults is what the user chose for networks and containers that do not say
// themselves. Its keys are dockerd's.
type Defaults struct {
	// Pools are where networks that name no subnet take theirs from; without
	// any of a family DefaultPools, or a random IPv6 subnet.
	Pools []Pool `json:"default-address-pools,omitempty"`
	// Options of new networks, by driver.
	Options map[string]map[string]string `json:"default-network-opts,omitempty"`

	// The others are of the default bridge. Bridge and Bridge6 are its own
	// addresses with its subnets, Within the part of the subnet that
	// containers get addresses of, Subnet6 another way to say Bridge6.
	Bridge  netip.Prefix `json:"bip,omitzero"`
	Bridge6 netip.Prefix `json:"bip6,omitzero"`
	Within  netip.Prefix `json:"fixed-cidr,omitzero"`
	Subnet6 netip.Prefix `json:"fixed-cidr-v6,omitzero"`
	IPv6    bool         `json:"ipv6,omitempty"`
	MTU     int          `json:"mtu,omitempty"`
	ICC     *bool        `json:"icc,omitempty"`
	// HostIP is where ports are published that name no address.
	HostIP netip.Addr `json:"ip,omitzero"`

	// DNS, DNSSearch and DNSOptions are of containers that have none.
	DNS        []netip.Addr `json:"dns,omitempty"`
	DNSSearch  []string     `json:"dns-search,omitempty"`
	DNSOptions []string     `json:"dns-opts,omitempty"`
}

// Check refuses what no network can have.
func (d *Defaults) Check() error {
	for _, p := range d.Pools {
		bits := p.Base.Addr().BitLen()
		if !p.Base.IsValid() || p.Base != p.Base.Masked() || p.Size < p.Base.Bits() || p.Size > bits-2 {
			return fault.InvalidArgument("invalid default-address-pools: base %s cannot be cut into subnets of size %d", p.Base, p.Size)
		}
		if err := checkPlace(p.Base); err != nil {
			return fmt.Errorf("invalid default-address-pools: %w", err)
		}
	}
	for driver, options := range d.Options {
		if driverOptions[driver] == nil {
			return fault.InvalidArgument("invalid default-network-opts: unknown driver %q", driver)
		}
		if err := checkOptions(driver, options); err != nil {
			return err
		}
	}
	if d.HostIP.IsValid() && !d.HostIP.Is4() {
		return fault.InvalidArgument("invalid ip %s: it must be an IPv4 address", d.HostIP)
	}
	if err := checkResolver(d.DNS, d.DNSSearch, d.DNSOptions); err != nil {
		return err
	}
	if d.MTU != 0 {
		if err := mtu(optMTU, strconv.Itoa(d.MTU)); err != nil {
			return err
		}
	}
	switch {
	case d.Within.IsValid() && !d.Bridge.IsValid():
		return fault.InvalidArgument("fixed-cidr needs bip, which it is a part of")
	case d.Subnet6.IsValid() && d.Bridge6.IsValid():
		return fault.InvalidArgument("bip6 and fixed-cidr-v6 exclude each other")
	case (d.Subnet6.IsValid() || d.Bridge6.IsValid()) && !d.IPv6:
		return fault.InvalidArgument("bip6 and fixed-cidr-v6 need ipv6 to be true")
	}
	r := newRecord(network.NetworkBridge, driverBridge)
	r.EnableIPv4, r.EnableIPv6 = true, d.IPv6
	for _, c := range d.bridgeConfigs() {
		if err := r.addSubnet(c); err != nil {
			return err
		}
		if err := checkReserved(c); err != nil {
			return err
		}
	}
	return nil
}

// bridgeConfigs are the subnets that the user chose for the default bridge.
func (d *Defaults) bridgeConfigs() (all []network.IPAMConfig) {
	for _, bip := range []netip.Prefix{d.Bridge, d.Bridge6} {
		if bip.IsValid() {
			c := network.IPAMConfig{Subnet: bip.Masked(), Gateway: bip.Addr()}
			if c.Subnet.Addr().Is4() {
				c.IPRange = d.Within
			}
			all = append(all, c)
		}
	}
	if d.Subnet6.IsValid() {
		all = append(all, network.IPAMConfig{Subnet: d.Subnet6, Gateway: d.Subnet6.Addr().Next()})
	}
	return all
}

// defaultBridge is the default bridge as the defaults have it; old is the one
// there was, or nil. What nobody chose stays as it is.
//
// Preconditions: m is not shared yet.
func (m *table) defaultBridge(old *Record) (*Record, error) {
	d := &m.o.Defaults
	r := newRecord(network.NetworkBridge, driverBridge)
	r.EnableIPv4, r.EnableIPv6 = true, d.IPv6
	r.Options = map[string]string{
		optDefaultBridge: "true", optICC: strconv.FormatBool(d.ICC == nil || *d.ICC), optMasquerade: "true",
		optHostBinding: "0.0.0.0", optBridgeName: "docker0", optMTU: "1500",
	}
	if d.HostIP.IsValid() {
		r.Options[optHostBinding] = d.HostIP.String()
	}
	if d.MTU != 0 {
		r.Options[optMTU] = strconv.Itoa(d.MTU)
	}
	r.IPAM.Config = d.bridgeConfigs()
	if old != nil {
		r.ID, r.Created = old.ID, old.Created
		for _, c := range old.IPAM.Config {
			if v6 := c.Subnet.Addr().Is6(); !r.hasFamily(v6) && (!v6 || r.EnableIPv6) {
				c.IPRange = netip.Prefix{}
				r.IPAM.Config = append(r.IPAM.Config, c)
			}
		}
	}
	_, err := m.chooseSubnets(r, nil)
	slices.SortFunc(r.IPAM.Config, func(a, b network.IPAMConfig) int { return a.Subnet.Addr().Compare(b.Subnet.Addr()) })
	return r, err
}

// withOptions adds the user's defaults to the options of a request.
func (d *Defaults) withOptions(driver string, options map[string]string) map[string]string {
	all := maps.Clone(d.Options[driver])
	if all == nil {
		return maps.Clone(options)
	}
	maps.Copy(all, options)
	return all
}

// resolve is the container with the user's defaults for what its names are
// looked up by.
func (d *Defaults) resolve(c *Container) *Container {
	with, h := *c, *c.HostConfig
	if len(h.DNS) == 0 {
		h.DNS = d.DNS
	}
	if len(h.DNSSearch) == 0 {
		h.DNSSearch = d.DNSSearch
	}
	if len(h.DNSOptions) == 0 {
		h.DNSOptions = d.DNSOptions
	}
	with.HostConfig = &h
	return &with
}
