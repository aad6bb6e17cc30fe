package container

import (
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/storage"

	"github.com/kelp-engine/kelp/engine/spec"
)

// Inspect describes a container in full, with size its files too.
func (m viewer) Inspect(ref string, size bool) (*container.InspectResponse, error) {
	c, err := m.Find(ref)
	if err != nil {
		return nil, err
	}
	r := c.Snapshot()
	words := slices.Concat(r.Config.Entrypoint, r.Config.Cmd)
	i := &container.InspectResponse{
		ID:              r.ID,
		Created:         r.Created.Format(time.RFC3339Nano),
		Path:            words[0],
		Args:            words[1:],
		State:           r.inspectState(),
		Image:           r.Image,
		ResolvConfPath:  fileIfThere(m.dir(r.ID), "resolv.conf"),
		HostnamePath:    fileIfThere(m.dir(r.ID), "hostname"),
		HostsPath:       fileIfThere(m.dir(r.ID), "hosts"),
		Name:            "/" + r.Name,
		RestartCount:    r.RestartCount,
		Driver:          m.o.Driver,
		Platform:        "linux",
		GraphDriver:     &storage.DriverData{Name: m.o.Driver},
		HostConfig:      m.shownLinks(r),
		Mounts:          mountPoints(r),
		Config:          r.Config,
		NetworkSettings: m.o.Networks.Settings(r),
	}
	if log := m.Log(c); log.Driver == jsonFile {
		i.LogPath = log.Path
	}
	if m.execs != nil {
		i.ExecIDs = m.execs.Of(r.ID)
	}
	if size {
		rw, total, err := m.o.RootFS.RootFSSize(r.ID)
		if err != nil {
			return nil, err
		}
		i.SizeRw, i.SizeRootFs = &rw, &total
	}
	return i, nil
}

// shownLinks is the HostConfig with the links of the default network as Docker
// shows them.
func (m viewer) shownLinks(r *Record) *container.HostConfig {
	if !r.HostConfig.NetworkMode.IsBridge() || len(r.HostConfig.Links) == 0 {
		return r.HostConfig
	}
	h := *r.HostConfig
	h.Links = make([]string, len(r.HostConfig.Links))
	for i, l := range r.HostConfig.Links {
		name, alias := spec.SplitLink(l)
		h.Links[i] = "/" + name + ":/" + r.Name + "/" + alias
	}
	return &h
}

// fileIfThere is the path of one of the container's own files, or "".
func fileIfThere(dir, name string) string {
	path := filepath.Join(dir, name)
	if _, err := os.Stat(path); err != nil {
		return ""
	}
	return path
}

// Changes lists what differs between the container's files and its image.
func (m viewer) Changes(ref string) ([]container.FilesystemChange, error) {
	c, err := m.Find(ref)
	if err != nil {
		return nil, err
	}
	return m.o.RootFS.Changes(c.id)
}
