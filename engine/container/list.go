package container

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/api/types/network"

	"github.com/kelp-engine/kelp/engine/filter"
)

// ListOptions say which containers List shows, and how much of them.
type ListOptions struct {
	All    bool // those that do not run, too
	Limit  int  // the newest so many, running or not; 0 is no limit
	Size   bool // measure their files
	Filter filter.Args
}

// List describes containers, the newest first.
func (m viewer) List(ctx context.Context, o ListOptions) ([]container.Summary, error) {
	match, err := newMatcher(ctx, m.runner, o)
	if err != nil {
		return nil, err
	}
	rows := []container.Summary{}
	names := imageNames{images: m.o.Images, ids: map[string]string{}}
	now := time.Now()
	linkNames := links{m.registry}.names()
	for _, c := range m.All() {
		r := c.Snapshot()
		called := append([]string{"/" + r.Name}, linkNames[r.ID]...)
		if !match.matches(r, called) {
			continue
		}
		row := m.summary(r, now)
		row.Names = called
		row.Image = names.of(ctx, r)
		if o.Size {
			if row.SizeRw, row.SizeRootFs, err = m.o.RootFS.RootFSSize(r.ID); err != nil {
				return nil, err
			}
		}
		rows = append(rows, row)
		if o.Limit > 0 && len(rows) == o.Limit {
			break
		}
	}
	return rows, nil
}

// summary is a row of List but for what takes more than the record to find out.
func (m viewer) summary(r *Record, now time.Time) container.Summary {
	net := m.o.Networks.Settings(r)
	row := container.Summary{
		ID:              r.ID,
		ImageID:         r.Image,
		Command:         commandLine(r.Config),
		Created:         r.Created.Unix(),
		Ports:           portSummaries(r.Config.ExposedPorts, net.Ports),
		Labels:          r.Config.Labels,
		State:           r.apiState(),
		Status:          r.status(now),
		NetworkSettings: &container.NetworkSettingsSummary{Networks: net.Networks},
		Mounts:          mountPoints(r),
		Health:          healthSummary(r.Health),
	}
	if row.Labels == nil {
		row.Labels = map[string]string{}
	}
	row.HostConfig.NetworkMode = string(r.HostConfig.NetworkMode)
	row.HostConfig.Annotations = r.HostConfig.Annotations
	return row
}

func healthSummary(h *container.Health) *container.HealthSummary {
	if h == nil {
		return &container.HealthSummary{Status: container.NoHealthcheck}
	}
	return &container.HealthSummary{Status: h.Status, FailingStreak: h.FailingStreak}
}

func mountPoints(r *Record) []container.MountPoint {
	points := make([]container.MountPoint, 0, len(r.Mounts))
	for _, p := range r.Mounts {
		if p.Type != mount.TypeTmpfs || p.FromMounts { // HostConfig.Tmpfs is shown there only
			points = append(points, p.API())
		}
	}
	return points
}

// commandLine is what the container runs, in one line for people.
func commandLine(c *container.Config) string {
	words := slices.Concat(c.Entrypoint, c.Cmd)
	for i, w := range words {
		if i > 0 && strings.Contains(w, " ") {
			words[i] = "'" + w + "'"
		}
	}
	return strings.Join(words, " ")
}

// portSummaries lists published ports, and exposed ones that are not.
func portSummaries(exposed network.PortSet, published network.PortMap) []container.PortSummary {
	list := []container.PortSummary{}
	for port, bindings := range published {
		for _, b := range bindings {
			p := container.PortSummary{IP: b.HostIP, PrivatePort: port.Num(), Type: string(port.Proto())}
			if host, err := network.ParsePort(b.HostPort); err == nil {
				p.PublicPort = host.Num()
			}
			list = append(list, p)
		}
	}
	for port := range exposed {
		if len(published[port]) == 0 {
			list = append(list, container.PortSummary{PrivatePort: port.Num(), Type: string(port.Proto())})
		}
	}
	slices.SortFunc(list, func(a, b container.PortSummary) int {
		if d := int(a.PrivatePort) - int(b.PrivatePort); d != 0 {
			return d
		}
		return strings.Compare(a.IP.String(), b.IP.String())
	})
	return list
}

// imageNames tells what to call a container's image: as the client did, unless
// that name means another image by now.
type imageNames struct {
	images Images
	ids    map[string]string // by name; what it means now
}

func (n imageNames) of(ctx context.Context, r *Record) string {
	name := r.Config.Image
	id, known := n.ids[name]
	if !known {
		if img, err := n.images.Resolve(ctx, name); err == nil {
			id = img.ID
		}
		n.ids[name] = id
	}
	if id != r.Image {
		return r.Image
	}
	return name
}
