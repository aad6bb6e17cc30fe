package network

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/moby/moby/api/types/network"

	"github.com/kelp-engine/kelp/engine/keeper"
)

// Drivers.
const (
	driverBridge  = "bridge"
	driverMacvlan = "macvlan"
	driverIpvlan  = "ipvlan"
	driverHost    = "host"
	driverNull    = "null"
)

// Record is a network as it lies on disk.
type Record struct {
	ID         string            `json:"id"`
	Name       string            `json:"name"`
	Created    time.Time         `json:"created"`
	Driver     string            `json:"driver"`
	EnableIPv4 bool              `json:"enable_ipv4,omitempty"`
	EnableIPv6 bool              `json:"enable_ipv6,omitempty"`
	IPAM       network.IPAM      `json:"ipam"`
	Internal   bool              `json:"internal,omitempty"`
	Attachable bool              `json:"attachable,omitempty"`
	Options    map[string]string `json:"options,omitempty"`
	Labels     map[string]string `json:"labels,omitempty"`
	// ConfigOnly networks are there to make others from; no container is ever
	// on one.
	ConfigOnly bool `json:"config_only,omitempty"`
	// ConfigFrom is the name of the one that the network was made from.
	ConfigFrom string `json:"config_from,omitempty"`
}

func newRecord(name, driver string) *Record {
	return &Record{
		ID: newID(), Name: name, Created: time.Now().UTC(), Driver: driver,
		IPAM: network.IPAM{Driver: "default"},
	}
}

// check refuses a record that nobody can have written on purpose.
func (r *Record) check(id string) error {
	if r.ID != id || r.Name == "" || r.Driver == "" {
		return fmt.Errorf("it is that of network %q with the id %q and the driver %q", r.Name, r.ID, r.Driver)
	}
	for _, c := range r.IPAM.Config {
		if !c.Subnet.IsValid() || c.IPRange.IsValid() && (c.IPRange.Bits() < c.Subnet.Bits() || !c.Subnet.Contains(c.IPRange.Addr())) {
			return fmt.Errorf("it has the subnet %s with the range %s", c.Subnet, c.IPRange)
		}
	}
	return nil
}

func newID() string {
	b := make([]byte, 32)
	rand.Read(b)
	return hex.EncodeToString(b)
}

// predefined says whether the network is one that every engine has.
func (r *Record) predefined() bool {
	return r.Name == network.NetworkBridge || r.Name == network.NetworkHost || r.Name == network.NetworkNone
}

// stacked says whether containers' interfaces share a parent, which leads
// nowhere.
func (r *Record) stacked() bool { return r.Driver == driverMacvlan || r.Driver == driverIpvlan }

// inside says whether the network leads to no other.
func (r *Record) inside() bool { return r.Internal || r.stacked() }

// isDefault says whether it is the network of containers that name none; it
// knows no names.
func (r *Record) isDefault() bool { return r.Name == network.NetworkBridge }

// api is the network as clients see it.
func (r *Record) api() network.Network {
	n := network.Network{
		Name: r.Name, ID: r.ID, Created: r.Created, Scope: "local", Driver: r.Driver,
		EnableIPv4: r.EnableIPv4, EnableIPv6: r.EnableIPv6, IPAM: r.IPAM,
		Internal: r.Internal, Attachable: r.Attachable,
		ConfigOnly: r.ConfigOnly, ConfigFrom: network.ConfigReference{Network: r.ConfigFrom},
		Options: map[string]string{}, Labels: map[string]string{},
	}
	maps.Copy(n.Options, r.Options)
	maps.Copy(n.Labels, r.Labels)
	if n.IPAM.Config == nil {
		n.IPAM.Config = []network.IPAMConfig{}
	}
	return n
}

// keeper is the network as the keeper makes it.
func (r *Record) keeper() keeper.Network {
	n := keeper.Network{
		ID: r.ID, Name: r.Name, Bridge: r.Options[optBridgeName],
		Internal: r.inside(), Isolated: r.off(optICC), AnySource: r.on(optAnySource),
	}
	switch r.Driver {
	case driverMacvlan:
		n.Stacked, n.Mode = r.Driver, r.Options[optMacvlanMode]
	case driverIpvlan:
		n.Stacked, n.Mode, n.Flag = r.Driver, r.Options[optIpvlanMode], r.Options[optIpvlanFlag]
	}
	n.MTU, _ = strconv.Atoi(r.Options[optMTU]) // checked at create
	for _, c := range r.IPAM.Config {
		s := keeper.Subnet{Prefix: c.Subnet}
		if !r.isolated(c.Subnet.Addr().Is6()) {
			s.Gateway = c.Gateway
		}
		n.Subnets = append(n.Subnets, s)
	}
	return n
}

// gateway returns the network's own address of a family.
func (r *Record) gateway(ipv6 bool) netip.Addr {
	for _, c := range r.IPAM.Config {
		if c.Subnet.Addr().Is6() == ipv6 {
			return c.Gateway
		}
	}
	return netip.Addr{}
}

// own are the addresses that an endpoint has of the network, without the
// link-local ones that its container asked for as well.
func (r *Record) own(e keeper.Endpoint) []netip.Prefix {
	var own []netip.Prefix
	for _, c := range r.IPAM.Config {
		i := slices.IndexFunc(e.Addresses, func(a netip.Prefix) bool { return c.Subnet.Contains(a.Addr()) })
		if i >= 0 {
			own = append(own, e.Addresses[i])
		}
	}
	return own
}
