package server

import (
	"context"
	"errors"
	"log/slog"
	"reflect"
	"sync"
	"time"

	"github.com/containerd/errdefs"

	"github.com/kelp-engine/kelp/engine/crashpoint"
	"github.com/kelp-engine/kelp/engine/fault"
	"github.com/kelp-engine/kelp/engine/keeper"
	"github.com/kelp-engine/kelp/netstack"
	"github.com/kelp-engine/kelp/netstack/dns"
	"github.com/kelp-engine/kelp/netstack/link"
)

// hostResolvConf names the host's resolvers.
const hostResolvConf = "/etc/resolv.conf"

// networks are the keeper's networks and sandboxes. Operations on them take
// turns, except that sandboxes are made and released side by side.
type networks struct {
	*bridges
	resolvers *dns.HostResolvers
	boxes     map[string]*sandbox
}

// bridges are the networks alone.
type bridges struct {
	log  *slog.Logger
	idle time.Duration // how long a network stays open without sandboxes

	mu   sync.Mutex // guards the sandboxes as well
	nets map[string]*network
}

// idleNetwork spares the next container the making of its network.
const idleNetwork = time.Minute

// network is a network that is open, opening or closing.
type network struct {
	turn turn
	cfg  keeper.Network
	net  *netstack.Network // nil until it is open
	uses int               // endpoints, also those being made
	// unused closes the network when nobody has used it for a while.
	unused *time.Timer
}

// sandbox is a sandbox that is open, opening or closing.
type sandbox struct {
	turn  turn
	state keeper.SandboxState
	box   *netstack.Sandbox // nil until it is open
}

// turn lets one operation at a time work on something slow.
type turn chan struct{}

func newTurn() turn { return make(turn, 1) }

// take waits for the turn; give passes it on.
func (t turn) take(ctx context.Context) error {
	select {
	case t <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (t turn) give() { <-t }

func newNetworks() *networks {
	return &networks{
		bridges:   &bridges{log: slog.Default(), idle: idleNetwork, nets: map[string]*network{}},
		resolvers: &dns.HostResolvers{Path: hostResolvConf},
		boxes:     map[string]*sandbox{},
	}
}

func (n *networks) ops() map[string]op {
	return map[string]op{
		"network.ensure":      n.ensureNetwork,
		"network.remove":      n.removeNetwork,
		"network.list":        n.listNetworks,
		"network.dial":        n.dialTCP,
		"network.dial-udp":    n.dialUDP,
		"sandbox.create":      n.createSandbox,
		"sandbox.release":     n.releaseSandbox,
		"sandbox.list":        n.listSandboxes,
		"endpoint.connect":    n.connectEndpoint,
		"endpoint.disconnect": n.disconnectEndpoint,
		"endpoint.rename":     n.renameEndpoint,
	}
}

func (n *bridges) ensureNetwork(ctx context.Context, c *call) (any, error) {
	var cfg keeper.Network
	if err := c.decode(&cfg); err != nil {
		return nil, err
	}
	if cfg.ID == "" {
		return nil, fault.InvalidArgument("a network needs an id")
	}
	w, err := n.takeNetwork(ctx, cfg)
	if err != nil {
		return nil, err
	}
	defer w.turn.give()
	switch {
	case w.net == nil:
		return nil, n.openNetwork(w)
	case !reflect.DeepEqual(w.cfg, cfg):
		return nil, fault.Conflict("network %s is there already, with other settings", cfg.Name)
	}
	return nil, nil
}

// takeNetwork finds or enters a network and takes its turn.
func (n *bridges) takeNetwork(ctx context.Context, cfg keeper.Network) (*network, error) {
	for {
		n.mu.Lock()
		w := n.nets[cfg.ID]
		if w == nil {
			w = &network{turn: newTurn(), cfg: cfg}
			n.nets[cfg.ID] = w
		}
		n.mu.Unlock()
		if err := w.turn.take(ctx); err != nil {
			return nil, err
		}
		n.mu.Lock()
		still := n.nets[cfg.ID] == w
		n.mu.Unlock()
		if still {
			return w, nil
		}
		w.turn.give() // it failed to open, or was removed
	}
}

// openNetwork opens w, or forgets it.
//
// Preconditions: the caller has w's turn.
func (n *bridges) openNetwork(w *network) error {
	cfg := w.cfg
	subnets := make([]netstack.Subnet, len(cfg.Subnets))
	for i, s := range cfg.Subnets {
		subnets[i] = netstack.Subnet(s)
	}
	opened, err := netstack.OpenNetwork(netstack.NetworkConfig{
		Name: cfg.Name, Bridge: cfg.Bridge, Subnets: subnets, MTU: cfg.MTU,
		Internal: cfg.Internal, Isolated: cfg.Isolated, AnySource: cfg.AnySource,
		Stacked: link.Stacked{Driver: cfg.Stacked, Mode: cfg.Mode, Flag: cfg.Flag}, Log: n.log,
	})
	crashpoint.Hit("keeper.network.opened")
	n.mu.Lock()
	defer n.mu.Unlock()
	if err != nil {
		delete(n.nets, cfg.ID)
		return fault.Internal("%w", err)
	}
	w.net = opened
	n.armIdle(w)
	return nil
}

// armIdle has w closed unless somebody uses it soon.
//
// Preconditions: n.mu is held; nobody uses w.
func (n *bridges) armIdle(w *network) {
	w.unused = time.AfterFunc(n.idle, func() {
		if err := n.close(context.Background(), w); err != nil && !errors.Is(err, errdefs.ErrConflict) {
			n.log.Warn("cannot close a network that nobody uses", "network", w.cfg.Name, "error", err)
		}
	})
}

func (n *bridges) removeNetwork(ctx context.Context, c *call) (any, error) {
	var id struct{ ID string }
	if err := c.decode(&id); err != nil {
		return nil, err
	}
	n.mu.Lock()
	w := n.nets[id.ID]
	n.mu.Unlock()
	if w == nil {
		return nil, nil
	}
	return nil, n.close(ctx, w)
}

// close closes a network that nobody uses, and forgets it.
func (n *bridges) close(ctx context.Context, w *network) error {
	if err := w.turn.take(ctx); err != nil {
		return err
	}
	defer w.turn.give()
	n.mu.Lock()
	if n.nets[w.cfg.ID] != w {
		n.mu.Unlock()
		return nil // it was closed, or failed to open
	}
	if w.uses > 0 {
		n.mu.Unlock()
		return fault.Conflict("network %s has active endpoints", w.cfg.Name)
	}
	delete(n.nets, w.cfg.ID)
	if w.unused != nil {
		w.unused.Stop()
	}
	n.mu.Unlock()
	if w.net == nil {
		return nil
	}
	return w.net.Close()
}

func (n *bridges) listNetworks(context.Context, *call) (any, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	all := []keeper.NetworkState{}
	for _, w := range n.nets {
		if w.net != nil {
			all = append(all, keeper.NetworkState{Network: w.cfg, Path: w.net.Namespace().Path()})
		}
	}
	return all, nil
}

// use finds an open network and keeps it open until done.
func (n *bridges) use(id string) (*netstack.Network, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	w := n.nets[id]
	if w == nil || w.net == nil {
		return nil, fault.NotFound("network %s is not there", id)
	}
	w.uses++
	w.unused.Stop()
	return w.net, nil
}

func (n *bridges) done(id string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	w := n.nets[id]
	if w == nil {
		return
	}
	if w.uses--; w.uses == 0 {
		n.armIdle(w)
	}
}

// NetNS returns the path of a sandbox's namespace.
func (n *networks) NetNS(id string) (string, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	b := n.boxes[id]
	if b == nil || b.box == nil {
		return "", fault.NotFound("container %s has no network sandbox", id)
	}
	return b.box.Path(), nil
}

// Sysctls implements sandboxes.
func (n *networks) Sysctls(id string, settings map[string]string) error {
	n.mu.Lock()
	var box *netstack.Sandbox
	if b := n.boxes[id]; b != nil {
		box = b.box
	}
	n.mu.Unlock()
	if box == nil {
		return fault.NotFound("container %s has no network sandbox", id)
	}
	return box.Sysctls(settings)
}

// closeAll ends every sandbox and network.
func (n *networks) closeAll() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, b := range n.boxes {
		if b.box != nil {
			if err := b.box.Close(); err != nil {
				n.log.Warn("cannot close a container's network", "container", b.state.ID, "error", err)
			}
		}
	}
	for _, w := range n.nets {
		if w.net != nil {
			w.unused.Stop()
			if err := w.net.Close(); err != nil {
				n.log.Warn("cannot close a network", "network", w.cfg.Name, "error", err)
			}
		}
	}
	clear(n.boxes)
	clear(n.nets)
}
