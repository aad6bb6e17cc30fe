package network

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/network"

	"github.com/kelp-engine/kelp/engine/crashpoint"
	"github.com/kelp-engine/kelp/engine/fault"
	"github.com/kelp-engine/kelp/engine/filter"
)

// ListFilters are the filters that List knows.
var ListFilters = []string{"driver", "name", "id", "label", "scope", "type", "dangling"}

// PruneFilters are the filters that Prune knows.
var PruneFilters = []string{"until", "label", "label!"}

// List returns the networks that the filters let through.
func (m *Manager) List(filters filter.Args) ([]network.Summary, error) {
	dangling, err := filters.Bool("dangling", false)
	if err != nil {
		return nil, err
	}
	for _, t := range filters["type"] {
		if t != "custom" && t != "builtin" {
			return nil, fault.InvalidArgument("invalid filter: 'type'='%s'", t)
		}
	}
	named, identified := filters.Matcher("name"), filters.Matcher("id")
	m.mu.Lock()
	defer m.mu.Unlock()
	list := []network.Summary{}
	for _, r := range m.all() {
		if !named(r.Name) || !identified(r.ID) || !matches(r, filters) {
			continue
		}
		if filters.Has("dangling") && dangling != (!r.predefined() && len(m.users(r)) == 0) {
			continue
		}
		list = append(list, network.Summary{Network: r.api()})
	}
	return list, nil
}

func matches(r *Record, f filter.Args) bool {
	kind := "custom"
	if r.predefined() {
		kind = "builtin"
	}
	return f.Exact("driver", r.Driver) && f.Exact("scope", "local") && f.Exact("type", kind) &&
		f.Labels("label", r.Labels)
}

// Inspect returns a network and the containers on it.
func (m *Manager) Inspect(ref string) (network.Inspect, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r, err := m.findLocked(ref)
	if err != nil {
		return network.Inspect{}, err
	}
	return m.inspect(r), nil
}

// Remove removes a network that no running container is on.
func (m *Manager) Remove(ctx context.Context, ref string) error {
	r, err := m.find(ref)
	if err != nil {
		return err
	}
	if r.predefined() {
		return fault.PermissionDenied("%s is a pre-defined network and cannot be removed", r.Name)
	}
	return m.remove(ctx, r)
}

// remove takes the record away first, so that nothing joins the network any
// more, and gives it back when the keeper refuses.
func (m *joints) remove(ctx context.Context, r *Record) error {
	m.mu.Lock()
	if users := m.users(r); len(users) > 0 {
		err := m.inUse(r)
		m.mu.Unlock()
		return err
	}
	if err := m.checkDependents(r); err != nil {
		m.mu.Unlock()
		return err
	}
	if m.leased(r.ID) {
		m.mu.Unlock()
		return fault.PermissionDenied("error while removing network: a container is joining network %s", r.Name)
	}
	delete(m.networks, r.ID)
	m.mu.Unlock()
	if err := m.drop(ctx, r); err != nil {
		return fmt.Errorf("error while removing network: %w", err)
	}
	m.publish(r, events.ActionDestroy, nil)
	return nil
}

// drop ends a network that is not among m.networks any more, or puts it back.
func (m *joints) drop(ctx context.Context, r *Record) error {
	err := m.o.Bridges.RemoveNetwork(ctx, r.ID)
	crashpoint.Hit("network.remove.closed")
	if err == nil {
		err = m.store.Delete(r.ID)
	}
	crashpoint.Hit("network.remove.deleted")
	if err != nil {
		m.mu.Lock()
		m.networks[r.ID] = r
		m.mu.Unlock()
		return err
	}
	m.mu.Lock()
	delete(m.leases, r.ID)
	m.mu.Unlock()
	return nil
}

// inUse names the containers that keep a network from being removed.
//
// Preconditions: m.mu is held.
func (m *joints) inUse(r *Record) error {
	var users []string
	for id, e := range m.users(r) {
		users = append(users, fmt.Sprintf("name:%q id:%q", m.containers.NameOf(id), shortID(e.EndpointID)))
	}
	slices.Sort(users)
	return fault.PermissionDenied("error while removing network: network %s has active endpoints (%s)", r.Name, strings.Join(users, ", "))
}

// Prune removes the networks that no container is on. Configuration networks,
// which none can be on, stay.
func (m *Manager) Prune(ctx context.Context, filters filter.Args) (network.PruneReport, error) {
	until, err := filters.Until(time.Now())
	if err != nil {
		return network.PruneReport{}, err
	}
	m.mu.Lock()
	var unused []*Record
	for _, r := range m.all() {
		old := until.IsZero() || r.Created.Before(until)
		if !r.predefined() && !r.ConfigOnly && old && filters.PruneLabels(r.Labels) && len(m.users(r)) == 0 {
			unused = append(unused, r)
		}
	}
	m.mu.Unlock()
	report := network.PruneReport{NetworksDeleted: []string{}}
	for _, r := range unused {
		if m.remove(ctx, r) == nil { // else a container has joined it just now
			report.NetworksDeleted = append(report.NetworksDeleted, r.Name)
		}
	}
	m.o.Events.Publish(events.NetworkEventType, events.ActionPrune, "", map[string]string{"reclaimed": "0"})
	return report, nil
}
