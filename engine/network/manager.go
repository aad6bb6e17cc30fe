// Package network owns networks: their records and addresses, how containers
// are connected to them, and what containers read of it in /etc.
//
// It must not touch the kernel (the keeper does), or know HTTP or how
// containers are kept.
package network

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"reflect"
	"slices"
	"sync"

	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/network"

	"github.com/kelp-engine/kelp/engine/fault"
	"github.com/kelp-engine/kelp/engine/keeper"
	"github.com/kelp-engine/kelp/engine/record"
)

// Sandboxes makes containers' sandboxes; keeper.Networks is the real one.
type Sandboxes interface {
	CreateSandbox(ctx context.Context, s keeper.Sandbox) (keeper.SandboxState, error)
	ReleaseSandbox(ctx context.Context, id string) error
	ListSandboxes(ctx context.Context) ([]keeper.SandboxState, error)
}

// Bridges makes networks and connects sandboxes; keeper.Networks is the real
// one.
type Bridges interface {
	EnsureNetwork(ctx context.Context, n keeper.Network) error
	RemoveNetwork(ctx context.Context, id string) error
	ConnectEndpoint(ctx context.Context, sandboxID string, e keeper.Endpoint) error
	DisconnectEndpoint(ctx context.Context, sandboxID, endpointID string) error
	RenameEndpoint(ctx context.Context, sandboxID, endpointID string, names []string) error
}

// Containers are those that networks connect.
type Containers interface {
	// NameOf returns a container's name, or "" when there is no such one.
	NameOf(id string) string
	// Lookup returns a container, or nil when there is no such one.
	Lookup(ref string) *Container
	// EditNetworks lets change alter the endpoints of a container on which
	// no other operation works meanwhile, and saves them.
	EditNetworks(ctx context.Context, ref string, change func(ctx context.Context, c *Container) error) error
	// UpdateFiles makes of a container's files in /etc, which were as before,
	// what they are to be now, but for what its user changed.
	UpdateFiles(id string, before, now *Attachment) error
	// UpdateLinks sets the line of a container in the hosts files of those
	// that are linked to it.
	UpdateLinks(id string, line func(alias string) string) error
}

// Publisher tells the world what happens to networks.
type Publisher interface {
	Publish(typ events.Type, action events.Action, id string, attrs map[string]string)
}

// Options of a Manager.
type Options struct {
	Dir       string // of the records
	Sandboxes Sandboxes
	Bridges   Bridges
	Events    Publisher
	// Defaults have been checked.
	Defaults Defaults
}

// Manager holds all networks and connects containers to them.
type Manager struct {
	*joints
	*trials
}

// joints are the connections of running containers.
type joints struct {
	*table
	attached   map[string]*attachment // by container
	containers Containers
}

// attachment is a container's live sandbox.
type attachment struct {
	state keeper.SandboxState
}

// table holds the networks and their addresses.
type table struct {
	o     Options
	store *record.Store[Record]

	mu       sync.Mutex         // guards joints as well
	networks map[string]*Record // by id; a Record is never changed
	outside  map[string]*Record // the network of containers that are outside, by their id
	pool
}

// New opens the networks in o.Dir and makes the predefined ones. Call
// SetContainers and Recover before anything else.
func New(o Options) (*Manager, error) {
	t := &table{o: o, networks: map[string]*Record{}, outside: map[string]*Record{}, pool: pool{map[string]leases{}}}
	var err error
	if t.store, err = record.NewStore[Record](o.Dir, record.Options{Schema: 1}); err != nil {
		return nil, err
	}
	all, broken, err := t.store.All()
	if err != nil {
		return nil, err
	}
	for id, err := range broken {
		slog.Error("cannot read a network's record", "network", id, "error", err)
	}
	for id, r := range all {
		if err := r.check(id); err != nil {
			slog.Error("a network's record is damaged; it stays as it is", "network", id, "error", err)
			delete(all, id)
		}
	}
	t.networks = all
	if err := t.makePredefined(); err != nil {
		return nil, err
	}
	return &Manager{&joints{table: t, attached: map[string]*attachment{}}, &trials{bridges: o.Bridges}}, nil
}

// SetContainers wires the containers, which know networks in turn.
func (m *Manager) SetContainers(c Containers) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.containers = c
}

// makePredefined saves the networks that every engine has.
func (m *table) makePredefined() error {
	for _, p := range []struct{ name, driver string }{
		{network.NetworkBridge, driverBridge}, {network.NetworkHost, driverHost}, {network.NetworkNone, driverNull},
	} {
		var old *Record
		if i := slices.IndexFunc(m.all(), func(r *Record) bool { return r.Name == p.name }); i >= 0 {
			old = m.all()[i]
		}
		r := old
		if r == nil {
			r = newRecord(p.name, p.driver)
		}
		if p.driver == driverBridge {
			var err error
			if r, err = m.defaultBridge(old); err != nil {
				return err
			}
		}
		if old != nil && reflect.DeepEqual(r, old) {
			continue
		}
		if err := m.store.Save(r.ID, r); err != nil {
			return fmt.Errorf("cannot save the network %s: %w", p.name, err)
		}
		m.networks[r.ID] = r
	}
	return nil
}

// Recover learns from the keeper which containers are connected.
func (m *Manager) Recover(ctx context.Context) error {
	boxes, err := m.o.Sandboxes.ListSandboxes(ctx)
	if err != nil {
		return fmt.Errorf("cannot list the networks in use: %w", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, b := range boxes {
		m.attached[b.ID] = &attachment{state: b}
		for _, e := range b.Endpoints {
			m.take(e.NetworkID, b.ID, addrs(e.Addresses))
		}
	}
	return nil
}

func addrs(prefixes []netip.Prefix) []netip.Addr {
	all := make([]netip.Addr, len(prefixes))
	for i, p := range prefixes {
		all[i] = p.Addr()
	}
	return all
}

// all returns the networks in the order of their creation.
//
// Preconditions: m.mu is held, or m is not shared yet.
func (m *table) all() []*Record {
	all := make([]*Record, 0, len(m.networks))
	for _, r := range m.networks {
		all = append(all, r)
	}
	slices.SortFunc(all, func(a, b *Record) int { return a.Created.Compare(b.Created) })
	return all
}

// find returns the network with a name, an id or the start of an id.
func (m *table) find(ref string) (*Record, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.findLocked(ref)
}

// is says whether both refer to one network, which is there.
func (m *table) is(ref, other string) bool {
	a, err := m.find(ref)
	if err != nil {
		return false
	}
	b, err := m.find(other)
	return err == nil && a == b
}

func (m *table) findLocked(ref string) (*Record, error) {
	if ref == network.NetworkDefault {
		ref = network.NetworkBridge
	}
	if r := m.networks[ref]; r != nil {
		return r, nil
	}
	var starts []*Record
	for _, r := range m.networks {
		if r.Name == ref {
			return r, nil
		}
		if ref != "" && len(ref) < len(r.ID) && r.ID[:len(ref)] == ref {
			starts = append(starts, r)
		}
	}
	switch len(starts) {
	case 1:
		return starts[0], nil
	case 0:
		return nil, fault.NotFound("network %s not found", ref)
	}
	return nil, fault.InvalidArgument("network %s is ambiguous (%d matches found on name)", ref, len(starts))
}

func (m *table) publish(r *Record, action events.Action, attrs map[string]string) {
	all := map[string]string{"name": r.Name, "type": r.Driver}
	for k, v := range attrs {
		all[k] = v
	}
	m.o.Events.Publish(events.NetworkEventType, action, r.ID, all)
}

// hostResolvConf is the host's own, which containers' files start from.
const hostResolvConf = "/etc/resolv.conf"

func readOptional(path string) ([]byte, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	return b, err
}
