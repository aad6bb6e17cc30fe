package forward

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"

	"github.com/kelp-engine/kelp/netstack/link"
	"golang.org/x/sys/unix"
)

// Target is where the connections to a published port go.
type Target struct {
	// Bridge is the container's network.
	Bridge *link.Bridge
	// Container is the address and port to dial from inside the network.
	Container netip.AddrPort
	// Gateway is the network's own address of the same family. It stands in
	// for clients whose address the container could not answer.
	Gateway netip.Addr
	// Subnets are the networks that the container reaches without a router.
	Subnets []netip.Prefix
}

// Resolve tells where a published port leads at the moment; the container may
// be moving from one network to another.
type Resolve func() (Target, error)

// ErrPortTaken is in the error of a publication whose port is in use.
var ErrPortTaken = errors.New("port is already allocated")

// ErrPortForbidden is in the error of a publication whose port the host
// reserves for root.
var ErrPortForbidden = errors.New("the host keeps this port from ordinary users")

// Publish listens on the host and carries what comes there to the target.
// Port 0 takes a free one; the address in use is returned. proto is "tcp",
// "udp" or "sctp". Closing ends all connections made through it.
func Publish(proto string, host netip.AddrPort, to Resolve, log *slog.Logger) (io.Closer, netip.AddrPort, error) {
	switch proto {
	case "tcp":
		return publishTCP(host, to, log)
	case "udp":
		return publishUDP(host, to, log)
	case "sctp":
		return publishSCTP(host, to, log)
	}
	return nil, netip.AddrPort{}, fmt.Errorf("cannot publish a port of protocol %s", proto)
}

// BindError says that a host's port could not be had, in the words that
// Docker's tools match on.
type BindError struct {
	Host  netip.AddrPort
	Cause error
}

func (e *BindError) Error() string {
	return "Bind for " + e.Host.String() + " failed: " + e.Cause.Error()
}

// Unwrap returns the cause: ErrPortTaken, ErrPortForbidden or the system's.
func (e *BindError) Unwrap() error { return e.Cause }

func bindError(host netip.AddrPort, err error) error {
	switch {
	case errors.Is(err, unix.EADDRINUSE):
		err = ErrPortTaken
	case errors.Is(err, unix.EACCES):
		err = ErrPortForbidden
	}
	return &BindError{Host: host, Cause: err}
}

func listenConfig() net.ListenConfig {
	lc := net.ListenConfig{Control: listenOptions(hostCongestion())}
	lc.SetMultipathTCP(false)
	return lc
}

func network(proto string, a netip.Addr) string {
	if a.Is4() {
		return proto + "4"
	}
	return proto + "6"
}

// clientAs is the address under which the container sees a client: its own,
// unless the container could not answer that.
func (t Target) clientAs(client netip.AddrPort) link.Local {
	a := client.Addr()
	own := !t.Bridge.Transparent || a.Is4() != t.Container.Addr().Is4() || a.IsLoopback() || a.IsLinkLocalUnicast() || a == t.Gateway
	for _, s := range t.Subnets {
		own = own || s.Contains(a)
	}
	if own {
		return link.Local{Addr: netip.AddrPortFrom(t.Gateway, 0)}
	}
	return link.Local{Addr: client, Foreign: true}
}
