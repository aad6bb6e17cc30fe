// Package forward carries traffic between containers and the host's sockets:
// outward through a gVisor stack at the end of a network's uplink, inward from
// published ports. Everything that a container sends is taken for hostile:
// flows, pending dials and buffers are bounded.
//
// It must not know containers, records or Docker's API.
package forward

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"github.com/kelp-engine/kelp/netstack/link"
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/arp"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
)

const nicID tcpip.NICID = 1

// gsoSize is the largest TCP segment that crosses the uplink in one piece.
const gsoSize = 65535

// EgressConfig says what NewEgress serves.
type EgressConfig struct {
	// Bridge is the network whose way out it is, Uplink its uplink. Both must
	// stay open until Close has returned.
	Bridge *link.Bridge
	Uplink *link.Uplink
	// IPv6 says that the network has IPv6 addresses.
	IPv6 bool
	// ReachesHost tells whether the container with this address asked for the
	// host's loopback services at HostGateway. Nil is nobody.
	ReachesHost func(netip.Addr) bool
	// StackOnly keeps all traffic in the gVisor stack. Else, where the kernel
	// can, a TCP connection that was let in is handed to kernel sockets.
	StackOnly bool
	Log       *slog.Logger
}

// Egress is one network's way out.
type Egress struct {
	*core
	cancel context.CancelFunc
	tcp    *tcpFlows
	udp    *udpFlows
	ping   *pingFlows
}

// core is what all kinds of flows of a network share.
type core struct {
	cfg    EgressConfig
	log    *slog.Logger
	policy policy
	wire   *wire
	stack  *stack.Stack
	// congestion is the host's algorithm of TCP.
	congestion string
	// tasks are all goroutines but those of the stack.
	tasks sync.WaitGroup
}

// NewEgress starts to serve the uplink.
func NewEgress(cfg EgressConfig) (*Egress, error) {
	c := &core{cfg: cfg, log: cfg.Log, policy: policy{reachesHost: cfg.ReachesHost}, congestion: hostCongestion()}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	var err error
	if c.wire, err = newWire(cfg.Uplink); err != nil {
		return nil, fmt.Errorf("cannot use the uplink: %w", err)
	}
	if err := c.newStack(c.wire); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	flows, err := newTCPFlows(ctx, c)
	if err != nil {
		cancel()
		c.stack.Destroy()
		return nil, err
	}
	e := &Egress{core: c, cancel: cancel, tcp: flows, udp: newUDPFlows(ctx, c), ping: newPingFlows(c)}
	if err := c.stack.EnableNIC(nicID); err != nil { // only now is all there that takes packets
		e.Close()
		return nil, fmt.Errorf("cannot bring the uplink's stack up: %s", err)
	}
	return e, nil
}

// newStack builds the stack with the uplink as its only interface. It answers
// for every address there is (promiscuous, spoofing) and owns none.
func (c *core) newStack(ep stack.LinkEndpoint) error {
	s := stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol, ipv6.NewProtocol, arp.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol, udp.NewProtocol, icmp.NewProtocol4, icmp.NewProtocol6},
	})
	c.stack = s
	if err := c.tuneTCP(); err != nil {
		return err
	}
	if err := s.CreateNICWithOptions(nicID, ep, stack.NICOptions{Name: "uplink", Disabled: true}); err != nil {
		return fmt.Errorf("cannot attach the uplink: %s", err)
	}
	if err := s.SetPromiscuousMode(nicID, true); err != nil {
		return fmt.Errorf("cannot accept all destinations: %s", err)
	}
	if err := s.SetSpoofing(nicID, true); err != nil {
		return fmt.Errorf("cannot answer for all destinations: %s", err)
	}
	kernel := tcpip.LinkAddress(c.cfg.Uplink.KernelMAC)
	for _, way := range []struct {
		proto  tcpip.NetworkProtocolNumber
		subnet tcpip.Subnet
		via    netip.Addr
	}{
		{header.IPv4ProtocolNumber, header.IPv4EmptySubnet, uplinkKernel4},
		{header.IPv6ProtocolNumber, header.IPv6EmptySubnet, uplinkKernel6},
	} {
		via := tcpip.AddrFromSlice(way.via.AsSlice())
		if err := s.AddStaticNeighbor(nicID, way.proto, via, kernel); err != nil {
			return fmt.Errorf("cannot enter the kernel's address: %s", err)
		}
		s.AddRoute(tcpip.Route{Destination: way.subnet, Gateway: via, NIC: nicID})
	}
	return nil
}

// The stack's next hop; nothing needs the address but its neighbour table.
var (
	uplinkKernel4 = netip.MustParseAddr("169.254.255.2")
	uplinkKernel6 = netip.MustParseAddr("fe80::6b65:6c70:2")
)

// tuneTCP fits the stack's TCP to a link that loses nothing and whose far end
// is on the same machine.
func (c *core) tuneTCP() error {
	sack := tcpip.TCPSACKEnabled(true)
	// RACK and a congestion window that shrinks on loss only cost here.
	recovery := tcpip.TCPRecovery(0)
	moderate := tcpip.TCPModerateReceiveBufferOption(true)
	receive := tcpip.TCPReceiveBufferSizeRangeOption{Min: 4 << 10, Default: 256 << 10, Max: maxStackBuffer}
	send := tcpip.TCPSendBufferSizeRangeOption{Min: 4 << 10, Default: 256 << 10, Max: maxStackBuffer}
	// The container may use a port again at once; nothing is late on this link.
	linger := tcpip.TCPTimeWaitTimeoutOption(10 * time.Millisecond)
	for _, opt := range []tcpip.SettableTransportProtocolOption{&linger, &sack, &recovery, &moderate, &receive, &send} {
		if err := c.stack.SetTransportProtocolOption(tcp.ProtocolNumber, opt); err != nil {
			return fmt.Errorf("cannot set a TCP option of the stack: %s", err)
		}
	}
	return nil
}

// Reconnect goes on with the uplink's new socket; the flows stay.
func (e *Egress) Reconnect() error { return e.wire.replace(e.cfg.Uplink.Socket) }

// Close ends every flow and stops reading the uplink.
func (e *Egress) Close() {
	e.cancel()
	e.tcp.close()
	e.udp.close()
	e.ping.close()
	// From here on no packet comes in that could start a task. The stack itself
	// would wait for the reader under a lock that the reader may want.
	e.wire.Attach(nil)
	if err := e.stack.RemoveNIC(nicID); err != nil {
		e.log.Warn("cannot detach a network's uplink", "error", err.String())
	}
	e.tasks.Wait()
	e.stack.Destroy()
}

// send puts a complete IP packet on the uplink, towards the containers.
func (c *core) send(packet []byte) {
	proto := header.IPv4ProtocolNumber
	if header.IPVersion(packet) == header.IPv6Version {
		proto = header.IPv6ProtocolNumber
	}
	err := c.stack.WritePacketToRemote(nicID, tcpip.LinkAddress(c.cfg.Uplink.KernelMAC), proto, buffer.MakeWithData(packet))
	if err != nil {
		c.log.Debug("cannot send a packet to a container", "error", err.String())
	}
}

// deliver sends a message of a transport protocol to a container, in fragments
// where it is longer than the link takes.
func (c *core) deliver(proto tcpip.TransportProtocolNumber, from, to netip.Addr, head, payload []byte) error {
	network := header.IPv4ProtocolNumber
	if to.Is6() {
		network = header.IPv6ProtocolNumber
	}
	r, err := c.stack.FindRoute(nicID, tcpipAddr(from), tcpipAddr(to), network, false)
	if err != nil {
		return fmt.Errorf("cannot reach the container: %s", err)
	}
	defer r.Release()
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{
		ReserveHeaderBytes: len(head) + int(r.MaxHeaderLength()),
		Payload:            buffer.MakeWithData(payload),
	})
	defer pkt.DecRef()
	pkt.TransportProtocolNumber = proto
	copy(pkt.TransportHeader().Push(len(head)), head)
	if err := r.WritePacket(stack.NetworkHeaderParams{Protocol: proto, TTL: r.DefaultTTL()}, pkt); err != nil {
		return fmt.Errorf("cannot send to the container: %s", err)
	}
	return nil
}

// flowID names a flow as the container sees it.
type flowID struct {
	container, remote netip.AddrPort
}

func flowOf(id stack.TransportEndpointID) flowID {
	return flowID{
		container: netip.AddrPortFrom(addrFrom(id.RemoteAddress), id.RemotePort),
		remote:    netip.AddrPortFrom(addrFrom(id.LocalAddress), id.LocalPort),
	}
}

func addrFrom(a tcpip.Address) netip.Addr {
	addr, _ := netip.AddrFromSlice(a.AsSlice())
	return addr
}
