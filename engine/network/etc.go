package network

import (
	"log/slog"
	"net/netip"

	"github.com/kelp-engine/kelp/engine/keeper"
)

// etc is what containers read in /etc of the networks that they are on.
type etc struct{ *joints }

// files are those of a container with these endpoints.
func (m etc) files(c *Container, endpoints []keeper.Endpoint, links []hostLine) (*Attachment, error) {
	userDefined, own := false, []netip.Addr(nil)
	m.mu.Lock()
	for _, e := range endpoints {
		if r := m.networks[e.NetworkID]; r != nil {
			userDefined = userDefined || !r.isDefault()
			own = append(own, addrs(r.own(e))...)
		}
	}
	m.mu.Unlock()
	resolv, err := resolvFile(c, userDefined)
	return &Attachment{Hostname: hostnameFile(c), Hosts: hostsFile(c, own, links), ResolvConf: resolv}, err
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
