package netstack

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"

	"github.com/kelp-engine/kelp/netstack/dns"
	"github.com/kelp-engine/kelp/netstack/link"
)

// SandboxConfig says what OpenSandbox makes.
type SandboxConfig struct {
	// Resolver serves 127.0.0.11 in the sandbox.
	Resolver bool
	// Servers are the resolvers that the container asked for; they are asked
	// from inside the sandbox. Without them the host's are asked.
	Servers       []netip.Addr
	HostResolvers *dns.HostResolvers
	// ReachesHost lets the container reach the host's loopback services at
	// forward.HostGateway4 and 6.
	ReachesHost bool
	Log         *slog.Logger
}

// Endpoint joins a sandbox to a network.
type Endpoint struct {
	ID string
	// Device is the interface's name inside the sandbox.
	Device    string
	MAC       net.HardwareAddr
	Addresses []netip.Prefix
	// Names by which the network's other containers find this one.
	Names []string
	// Links are names that only this container knows, each for a name of the
	// same network.
	Links map[string]string
	// Priority decides which endpoint leads to the outside; equal ones are
	// ordered by their networks' names.
	Priority int
	Sysctls  map[string]string
}

// Sandbox is a container's network namespace with what belongs to it.
//
// Its methods that change it must not run at the same time.
type Sandbox struct {
	cfg SandboxConfig
	ns  *link.Namespace

	mu        sync.Mutex
	endpoints []*endpoint // the first of a family with a gateway leads out
	resolver  *dns.Server
	ports     []io.Closer
}

type endpoint struct {
	Endpoint
	net *Network
}

func (e *endpoint) portName() string { return portName(e.ID) }

// portName is the name of the bridge's end of an endpoint's pair: unique there
// and short enough for a device.
func portName(endpointID string) string { return "v" + endpointID[:min(len(endpointID), 12)] }

// OpenSandbox makes a namespace with nothing but loopback.
func OpenSandbox(cfg SandboxConfig) (*Sandbox, error) {
	ns, err := link.NewNamespace()
	if err != nil {
		return nil, err
	}
	s := &Sandbox{cfg: cfg, ns: ns}
	if err := s.open(); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (s *Sandbox) open() error {
	if err := s.ns.LoopbackUp(); err != nil {
		return fmt.Errorf("cannot bring loopback up: %w", err)
	}
	if !s.cfg.Resolver {
		return nil
	}
	udp, tcp, err := s.listenResolver()
	if err != nil {
		return fmt.Errorf("cannot start the container's resolver: %w", err)
	}
	s.resolver = dns.Serve(udp, tcp, zone{s}, forwarder{s}, s.cfg.Log)
	return nil
}

// listenResolver opens the resolver's sockets. Where the kernel can redirect,
// they leave port 53 to the container: a server there may want it on all of
// its addresses.
func (s *Sandbox) listenResolver() (udp *net.UDPConn, tcp *net.TCPListener, err error) {
	at := dns.Address
	for _, port := range []uint16{0, at.Port()} {
		udp, tcp, err = s.listenBoth(netip.AddrPortFrom(at.Addr(), port))
		if err != nil || port == at.Port() {
			return udp, tcp, err
		}
		err = s.ns.Redirect(at, localPort(udp.LocalAddr()), localPort(tcp.Addr()))
		if err == nil {
			return udp, tcp, nil
		}
		s.cfg.Log.Debug("the resolver takes the container's port 53", "error", err)
		udp.Close()
		tcp.Close()
	}
	return udp, tcp, err
}

func localPort(a net.Addr) uint16 {
	p, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return 0
	}
	return p.Port()
}

func (s *Sandbox) listenBoth(at netip.AddrPort) (*net.UDPConn, *net.TCPListener, error) {
	udp, err := s.ns.ListenPacket("udp4", net.UDPAddrFromAddrPort(at))
	if err != nil {
		return nil, nil, err
	}
	tcp, err := s.ns.Listen("tcp4", net.TCPAddrFromAddrPort(at))
	if err != nil {
		udp.Close()
		return nil, nil, err
	}
	return udp, tcp, nil
}

// Path is where others find the sandbox's namespace.
func (s *Sandbox) Path() string { return s.ns.Path() }

// Sysctls sets kernel settings of the sandbox, as "net.ipv4.ip_forward".
func (s *Sandbox) Sysctls(settings map[string]string) error { return s.ns.Sysctls(settings) }

// Close ends all that belongs to the sandbox. The namespace itself lives on
// while processes are in it.
func (s *Sandbox) Close() error {
	s.Unpublish()
	if s.resolver != nil {
		s.resolver.Close()
	}
	s.mu.Lock()
	endpoints := s.endpoints
	s.endpoints = nil
	s.mu.Unlock()
	var errs []error
	for _, e := range endpoints {
		e.net.leave(e.ID)
		errs = append(errs, e.net.bridge.MutePort(e.portName()))
	}
	return errors.Join(append(errs, s.ns.Close())...)
}

func (s *Sandbox) snapshot() []*endpoint {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.endpoints)
}

// Connect joins the sandbox to a network. When it fails nothing is left.
func (s *Sandbox) Connect(n *Network, cfg Endpoint) error {
	e := &endpoint{Endpoint: cfg, net: n}
	err := n.bridge.AddPort(s.ns, link.Port{
		Name: e.portName(), Device: e.Device, MAC: e.MAC, Addresses: e.Addresses,
		Sysctls: e.Sysctls,
	})
	if err != nil {
		return fmt.Errorf("cannot connect to network %s: %w", n.cfg.Name, err)
	}
	s.mu.Lock()
	s.endpoints = append(s.endpoints, e)
	slices.SortStableFunc(s.endpoints, func(a, b *endpoint) int {
		return cmp.Or(cmp.Compare(b.Priority, a.Priority), cmp.Compare(a.net.cfg.Name, b.net.cfg.Name))
	})
	s.mu.Unlock()
	m := member{names: e.Names, reachesHost: s.cfg.ReachesHost}
	for _, a := range e.Addresses {
		m.addrs = append(m.addrs, a.Addr())
	}
	n.join(e.ID, m)
	if err := s.route(); err != nil {
		return errors.Join(err, s.Disconnect(e.ID))
	}
	return nil
}

// Disconnect takes the sandbox off a network; being off already is no error.
func (s *Sandbox) Disconnect(endpointID string) error {
	s.mu.Lock()
	i := slices.IndexFunc(s.endpoints, func(e *endpoint) bool { return e.ID == endpointID })
	if i < 0 {
		s.mu.Unlock()
		return nil
	}
	e := s.endpoints[i]
	s.endpoints = slices.Delete(s.endpoints, i, i+1)
	s.mu.Unlock()
	e.net.leave(e.ID)
	if err := e.net.bridge.RemovePort(e.portName()); err != nil {
		return fmt.Errorf("cannot disconnect from network %s: %w", e.net.cfg.Name, err)
	}
	return s.route()
}

// Rename changes the names by which others find an endpoint.
func (s *Sandbox) Rename(endpointID string, names []string) {
	for _, e := range s.snapshot() {
		if e.ID == endpointID {
			e.net.rename(e.ID, names)
		}
	}
}

// Endpoints returns the endpoints, the one that leads out first.
func (s *Sandbox) Endpoints() []Endpoint {
	var all []Endpoint
	for _, e := range s.snapshot() {
		all = append(all, e.Endpoint)
	}
	return all
}

// route points the default routes at the endpoints that now lead out.
func (s *Sandbox) route() error {
	for _, ipv6 := range []bool{false, true} {
		e := s.leading(ipv6)
		if e == nil {
			if err := s.ns.DropDefaultRoute(ipv6); err != nil {
				return err
			}
			continue
		}
		if err := s.ns.SetDefaultRoute(e.Device, e.net.gateway(ipv6)); err != nil {
			return err
		}
	}
	return nil
}

// leading returns the endpoint that leads to the outside by a family, or nil.
func (s *Sandbox) leading(ipv6 bool) *endpoint {
	for _, e := range s.snapshot() {
		if !e.net.cfg.Internal && e.net.gateway(ipv6).IsValid() && e.address(ipv6).IsValid() {
			return e
		}
	}
	return nil
}

func (e *endpoint) address(ipv6 bool) netip.Addr {
	for _, a := range e.Addresses {
		if a.Addr().Is6() == ipv6 {
			return a.Addr()
		}
	}
	return netip.Addr{}
}
