package keeper

import (
	"context"
	"encoding/json"
	"net"
	"net/netip"
	"os"
	"syscall"

	"github.com/kelp-engine/kelp/engine/fault"
)

// Subnet is a range of addresses of a network and the network's own address
// in it; without a gateway there is no way out by this family.
type Subnet struct {
	Prefix  netip.Prefix `json:"prefix"`
	Gateway netip.Addr   `json:"gateway,omitzero"`
}

// Network describes a network: a namespace of its own with a bridge.
type Network struct {
	ID   string `json:"id"`
	Name string `json:"name"`
	// Bridge is the device's name inside the namespace.
	Bridge  string   `json:"bridge,omitempty"`
	Subnets []Subnet `json:"subnets,omitempty"`
	MTU     int      `json:"mtu,omitempty"`
	// Internal networks have no way out and publish no ports.
	Internal bool `json:"internal,omitempty"`
	// Isolated keeps the containers from speaking with each other.
	Isolated bool `json:"isolated,omitempty"`
	// AnySource lets containers send under addresses that are not theirs.
	AnySource bool `json:"any_source,omitempty"`
	// Stacked is "macvlan" or "ipvlan" where containers' interfaces are such
	// devices on a parent of the network's own; Mode and Flag are theirs.
	Stacked string `json:"stacked,omitempty"`
	Mode    string `json:"mode,omitempty"`
	Flag    string `json:"flag,omitempty"`
}

// Endpoint joins a sandbox to a network.
type Endpoint struct {
	NetworkID  string `json:"network_id"`
	EndpointID string `json:"endpoint_id"`
	// Interface is the device's name inside the sandbox.
	Interface string `json:"interface"`
	// MAC is empty where the interface has no choice.
	MAC       string         `json:"mac"`
	Addresses []netip.Prefix `json:"addresses,omitempty"`
	// DNSNames are what the network's other containers call this one.
	DNSNames []string `json:"dns_names,omitempty"`
	// Links are names that only this container knows, each for a name of the
	// same network.
	Links map[string]string `json:"links,omitempty"`
	// Priority decides which endpoint leads outside; equal ones are ordered
	// by their networks' names.
	Priority int `json:"priority,omitempty"`
	// Sysctls of the interface, for which IFNAME stands in their names.
	Sysctls map[string]string `json:"sysctls,omitempty"`
}

// Port is a port of a container that the host serves.
type Port struct {
	Proto string `json:"proto"`
	// HostIP is an address of the host; the zero Addr is every one, of both
	// families.
	HostIP netip.Addr `json:"host_ip,omitzero"`
	// HostPort is 0 for any free port, and the first of those to choose from
	// when HostPortEnd is set.
	HostPort      uint16 `json:"host_port,omitempty"`
	HostPortEnd   uint16 `json:"host_port_end,omitempty"`
	ContainerPort uint16 `json:"container_port"`
	// Preferred is tried before the others that may be chosen.
	Preferred uint16 `json:"preferred,omitempty"`
}

// DNSConfig is where a sandbox's resolver sends what is no container's name.
type DNSConfig struct {
	// Servers are asked from inside the sandbox; none means the host's
	// resolvers, asked by the host.
	Servers []netip.Addr `json:"servers,omitempty"`
	// Off leaves 127.0.0.11 without a resolver.
	Off bool `json:"off,omitempty"`
}

// Sandbox is a container's network namespace and what belongs to it.
type Sandbox struct {
	ID        string     `json:"id"` // the container's
	Endpoints []Endpoint `json:"endpoints,omitempty"`
	Ports     []Port     `json:"ports,omitempty"`
	DNS       DNSConfig  `json:"dns,omitzero"`
	// HostGateway lets the container reach the host's loopback services at
	// HostGateway4 and HostGateway6.
	HostGateway bool `json:"host_gateway,omitempty"`
}

// The addresses that stand for the host's loopback in sandboxes that ask.
var (
	HostGateway4 = netip.MustParseAddr("169.254.255.254")
	HostGateway6 = netip.MustParseAddr("fd6b:656c:7000::fffe")
)

// SandboxState is a sandbox as it is.
type SandboxState struct {
	Sandbox
	// Path is where processes of the same user find the namespace. It is
	// another after the keeper's restart.
	Path string `json:"path"`
	// Bound are the published ports as they were bound, one for each of the
	// host's addresses.
	Bound []Port `json:"bound,omitempty"`
}

// NetworkState is a network as it is.
type NetworkState struct {
	Network
	// Path is where processes of the same user find the namespace.
	Path string `json:"path"`
}

// EndpointRequest names an endpoint of a sandbox, or describes a new one.
type EndpointRequest struct {
	SandboxID string   `json:"sandbox_id"`
	Endpoint  Endpoint `json:"endpoint"`
}

// DialRequest is a connection to an address of a network.
type DialRequest struct {
	NetworkID string         `json:"network_id"`
	To        netip.AddrPort `json:"to"`
}

// DialAnswer comes with the connection's socket, unless connecting failed.
type DialAnswer struct {
	Errno syscall.Errno `json:"errno,omitempty"`
}

type byID struct {
	ID string `json:"id"`
}

// Networks are the keeper's operations on networks and sandboxes.
type Networks struct{ c *Client }

// Networks returns the keeper's operations on networks and sandboxes.
func (c *Client) Networks() Networks { return Networks{c} }

// EnsureNetwork makes the network unless it is there already.
func (n Networks) EnsureNetwork(ctx context.Context, network Network) error {
	return n.c.call(ctx, "network.ensure", network, nil)
}

// RemoveNetwork removes a network that no sandbox is connected to. A network
// that is not there is no error.
func (n Networks) RemoveNetwork(ctx context.Context, id string) error {
	return n.c.call(ctx, "network.remove", byID{id}, nil)
}

// ListNetworks returns all networks.
func (n Networks) ListNetworks(ctx context.Context) ([]NetworkState, error) {
	var all []NetworkState
	err := n.c.call(ctx, "network.list", nil, &all)
	return all, err
}

// DialNetwork connects to an address of a network, by "tcp" or "udp", from its
// gateway.
func (n Networks) DialNetwork(ctx context.Context, proto, networkID string, to netip.AddrPort) (conn net.Conn, err error) {
	op := "network.dial"
	if proto == "udp" {
		op = "network.dial-udp"
	}
	err = n.c.exchange(ctx, op, DialRequest{networkID, to}, func(body json.RawMessage, files []*os.File) error {
		var answer DialAnswer
		if err := json.Unmarshal(body, &answer); err != nil {
			return err
		}
		if answer.Errno != 0 {
			return os.NewSyscallError("connect", answer.Errno)
		}
		if len(files) != 1 {
			return fault.Internal("the keeper gave %d sockets for a connection", len(files))
		}
		conn, err = net.FileConn(files[0])
		return err
	})
	return conn, err
}

// CreateSandbox makes a sandbox with its endpoints and published ports, all
// or nothing. Its networks must be there.
func (n Networks) CreateSandbox(ctx context.Context, s Sandbox) (SandboxState, error) {
	var state SandboxState
	err := n.c.call(ctx, "sandbox.create", s, &state)
	return state, err
}

// ReleaseSandbox ends a sandbox: its ports, its resolver and its endpoints. A
// sandbox that is not there is no error.
func (n Networks) ReleaseSandbox(ctx context.Context, id string) error {
	return n.c.call(ctx, "sandbox.release", byID{id}, nil)
}

// ListSandboxes returns all sandboxes.
func (n Networks) ListSandboxes(ctx context.Context) ([]SandboxState, error) {
	var all []SandboxState
	err := n.c.call(ctx, "sandbox.list", nil, &all)
	return all, err
}

// ConnectEndpoint connects a sandbox to one more network.
func (n Networks) ConnectEndpoint(ctx context.Context, sandboxID string, e Endpoint) error {
	return n.c.call(ctx, "endpoint.connect", EndpointRequest{sandboxID, e}, nil)
}

// DisconnectEndpoint takes a sandbox off a network. An endpoint that is not
// there is no error.
func (n Networks) DisconnectEndpoint(ctx context.Context, sandboxID, endpointID string) error {
	return n.c.call(ctx, "endpoint.disconnect", EndpointRequest{sandboxID, Endpoint{EndpointID: endpointID}}, nil)
}

// RenameEndpoint changes the names by which other containers find an endpoint.
func (n Networks) RenameEndpoint(ctx context.Context, sandboxID, endpointID string, names []string) error {
	return n.c.call(ctx, "endpoint.rename", EndpointRequest{sandboxID, Endpoint{EndpointID: endpointID, DNSNames: names}}, nil)
}
