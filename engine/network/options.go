package network

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/kelp-engine/kelp/engine/fault"
)

// The options of bridge networks that kelp knows.
const (
	optDefaultBridge = "com.docker.network.bridge.default_bridge"
	optBridgeName    = "com.docker.network.bridge.name"
	optICC           = "com.docker.network.bridge.enable_icc"
	optMasquerade    = "com.docker.network.bridge.enable_ip_masquerade"
	optHostBinding   = "com.docker.network.bridge.host_binding_ipv4"
	optGatewayMode4  = "com.docker.network.bridge.gateway_mode_ipv4"
	optGatewayMode6  = "com.docker.network.bridge.gateway_mode_ipv6"
	optMTU           = "com.docker.network.driver.mtu"
	optIfacePrefix   = "com.docker.network.container_iface_prefix"
	optParent        = "parent"
	optMacvlanMode   = "macvlan_mode"
	optIpvlanMode    = "ipvlan_mode"
	optIpvlanFlag    = "ipvlan_flag"
	optIPv4          = "com.docker.network.enable_ipv4"
	optIPv6          = "com.docker.network.enable_ipv6"
	// optAnySource lets containers send under addresses that are not theirs.
	optAnySource = "kelp.any_source"
)

// checks are those of the values of a driver's options, by name.
type checks map[string]func(name, value string) error

// driverOptions are the drivers of which there can be networks.
var driverOptions = map[string]checks{
	driverBridge:  bridgeOptions,
	driverMacvlan: {optParent: parent, optMacvlanMode: oneOf("bridge", "private", "vepa", "passthru"), optMTU: mtu, optIfacePrefix: prefix, optIPv4: truth, optIPv6: truth},
	driverIpvlan:  {optParent: parent, optIpvlanMode: oneOf("l2", "l3", "l3s"), optIpvlanFlag: oneOf("bridge", "private", "vepa"), optMTU: mtu, optIfacePrefix: prefix, optIPv4: truth, optIPv6: truth},
}

var bridgeOptions = checks{
	optDefaultBridge: truth,
	optBridgeName:    device,
	optICC:           truth,
	optMasquerade:    masquerade,
	optHostBinding:   ipv4,
	optGatewayMode4:  gatewayMode,
	optGatewayMode6:  gatewayMode,
	optMTU:           mtu,
	optIfacePrefix:   prefix,
	optIPv4:          truth,
	optIPv6:          truth,
	optAnySource:     truth,
}

// checkOptions refuses options that the driver does not know, and values that
// it cannot do.
func checkOptions(driver string, options map[string]string) error {
	for name, value := range options {
		check := driverOptions[driver][name]
		if check == nil {
			return fault.InvalidArgument("unknown option %q of the network driver %s", name, driver)
		}
		if err := check(name, value); err != nil {
			return err
		}
	}
	return nil
}

func parent(_, value string) error {
	return fault.PermissionDenied("an ordinary user may not put devices on the host's interface %s", value).
		WithHint("leave the option parent out for a network of its own that leads nowhere, or use the driver bridge and publish ports")
}

func oneOf(values ...string) func(name, value string) error {
	return func(name, value string) error {
		if !slices.Contains(values, value) {
			return fault.InvalidArgument("unknown value %q of option %s: it must be one of %s", value, name, strings.Join(values, ", "))
		}
		return nil
	}
}

func truth(name, value string) error {
	if _, err := strconv.ParseBool(value); err != nil {
		return fault.InvalidArgument("invalid value %q of option %s: it must be true or false", value, name)
	}
	return nil
}

// maxDevice is how long the kernel lets a device's name be.
const maxDevice = 15

// isDevice says whether the kernel takes text for the name of a device.
func isDevice(text string) bool {
	return text != "" && len(text) <= maxDevice && text != "." && text != ".." && text != "lo" &&
		text != "all" && text != "default" && !strings.ContainsAny(text, "/: \t\n\v\f\r%")
}

func device(name, value string) error {
	if !isDevice(value) {
		return fault.InvalidArgument("invalid device name %q of option %s", value, name)
	}
	return nil
}

func prefix(name, value string) error {
	if !isDevice(value) || len(value) > maxDevice-3 { // numbers follow
		return fault.InvalidArgument("invalid interface prefix %q of option %s", value, name)
	}
	return nil
}

func masquerade(name, value string) error {
	if on, err := strconv.ParseBool(value); err != nil || !on {
		return fault.InvalidArgument("option %s must be true: an ordinary user's containers speak with the world under the host's address", name)
	}
	return nil
}

func ipv4(name, value string) error {
	if a, err := netip.ParseAddr(value); err != nil || !a.Is4() {
		return fault.InvalidArgument("invalid IPv4 address %q of option %s", value, name)
	}
	return nil
}

func mtu(_, value string) error {
	if mtu, err := strconv.Atoi(value); err != nil || mtu < 68 || mtu > 65520 {
		return fault.InvalidArgument("invalid MTU %q: it must be between 68 and 65520", value)
	}
	return nil
}

// Gateway modes. An isolated network has no address of its own.
const (
	gatewayNAT      = "nat"
	gatewayIsolated = "isolated"
)

func gatewayMode(name, value string) error {
	switch value {
	case "", gatewayNAT, gatewayIsolated:
		return nil
	case "routed", "nat-unprotected":
		return fault.InvalidArgument("gateway mode %q is not possible: an ordinary user cannot route to containers", value).
			WithHint("publish ports, or reach containers with 'kelp proxy'")
	}
	return fault.InvalidArgument("unknown gateway mode %q of option %s: it must be %s or %s", value, name, gatewayNAT, gatewayIsolated)
}

// isolated says whether the network has no gateway of a family.
func (r *Record) isolated(ipv6 bool) bool {
	if ipv6 {
		return r.Options[optGatewayMode6] == gatewayIsolated
	}
	return r.Options[optGatewayMode4] == gatewayIsolated
}

// on and off say whether an option is set so; Docker reads any of Go's words
// for true and false.
func (r *Record) on(option string) bool {
	v, err := strconv.ParseBool(r.Options[option])
	return err == nil && v
}

func (r *Record) off(option string) bool {
	v, err := strconv.ParseBool(r.Options[option])
	return err == nil && !v
}
