package network

import (
	"context"
	"log/slog"
	"maps"
	"slices"

	"github.com/moby/moby/api/types/network"

	"github.com/kelp-engine/kelp/engine/keeper"
)

// Repair makes the sandboxes of running containers agree with the containers'
// records, and releases those of containers that do not run. An engine that
// died while it connected, disconnected or renamed a container left them at
// odds. The containers have been recovered.
func (m *Manager) Repair(ctx context.Context, running func(containerID string) bool) {
	m.mu.Lock()
	live := slices.Collect(maps.Keys(m.attached))
	m.mu.Unlock()
	for _, id := range live {
		var err error
		switch c := m.containers.Lookup(id); {
		case c == nil || !running(id):
			err = m.Detach(ctx, id)
		case !m.agrees(c):
			err = m.containers.EditNetworks(ctx, id, m.agree)
		}
		if err != nil {
			slog.Warn("cannot repair how a container is connected", "container", id, "error", err)
		}
	}
}

// asked are the networks that a container's record says it is on.
func (m *joints) asked(c *Container) map[string]wish {
	all := map[string]wish{}
	for ref, cfg := range m.named(c) {
		r, err := m.find(ref)
		if err != nil || r.Driver == driverNull {
			continue
		}
		if cfg == nil {
			cfg = &network.EndpointSettings{}
		}
		all[r.ID] = wish{r, cfg}
	}
	return all
}

// agrees says whether a live container is connected as its record says.
func (m *joints) agrees(c *Container) bool {
	asked := m.asked(c)
	m.mu.Lock()
	defer m.mu.Unlock()
	endpoints := m.connected(c.ID)
	return len(endpoints) == len(asked) && !slices.ContainsFunc(endpoints, func(e keeper.Endpoint) bool {
		w, ok := asked[e.NetworkID]
		return !ok || !slices.Equal(c.Addresses[e.NetworkID], addrs(e.Addresses)) ||
			!w.net.isDefault() && !slices.Equal(e.DNSNames, dnsNames(c, w.cfg))
	})
}

// agree connects a live container as its record says.
func (m *Manager) agree(ctx context.Context, c *Container) error {
	asked := m.asked(c)
	m.mu.Lock()
	endpoints := slices.Clone(m.connected(c.ID))
	m.mu.Unlock()
	for _, e := range endpoints {
		if r, err := m.find(e.NetworkID); asked[e.NetworkID].net == nil && err == nil {
			slog.Info("disconnecting a container that was being connected", "container", c.Name, "network", r.Name)
			if err := m.disconnectLive(ctx, c, r); err != nil {
				return err
			}
		}
		delete(asked, e.NetworkID)
	}
	for _, w := range asked {
		slog.Info("connecting a container that was being disconnected", "container", c.Name, "network", w.net.Name)
		if err := m.connectLive(ctx, c, w); err != nil {
			return err
		}
	}
	if err := m.Renamed(ctx, c); err != nil {
		return err
	}
	m.connectedNow(c, c.Endpoints)
	return nil
}
