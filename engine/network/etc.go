package network

import (
	"log/slog"
	"slices"

	"github.com/kelp-engine/kelp/engine/keeper"
)

// etc is what containers read in /etc of the networks that they are on.
type etc struct{ *joints }

// files are those of a container with these endpoints.
func (m etc) files(c *Container, endpoints []keeper.Endpoint, links []hostLine) (*Attachment, error) {
	m.mu.Lock()
	userDefined := slices.ContainsFunc(endpoints, func(e keeper.Endpoint) bool {
		r := m.networks[e.NetworkID]
		return r != nil && !r.isDefault()
	})
	m.mu.Unlock()
	resolv, err := resolvFile(c, userDefined)
	return &Attachment{Hostname: hostnameFile(c), Hosts: hostsFile(c, endpoints, links), ResolvConf: resolv}, err
}

// update follows a change of a running container's endpoints, which were
// these before.
func (m etc) update(c *Container, before []keeper.Endpoint) {
	m.mu.Lock()
	endpoints := m.connected(c.ID)
	m.mu.Unlock()
	old, err := m.files(c, before, nil)
	if err == nil {
		var now *Attachment
		if now, err = m.files(c, endpoints, nil); err == nil {
			err = m.containers.UpdateFiles(c.ID, old, now)
		}
	}
	if err != nil {
		slog.Warn("cannot update a container's files in /etc", "container", c.Name, "error", err)
	}
	m.relink(c)
}
