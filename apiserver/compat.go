package apiserver

import (
	"encoding/json"
	"strings"

	"github.com/moby/moby/api/types/build"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/registry"
	"github.com/moby/moby/api/types/system"
	"github.com/moby/moby/api/types/volume"
)

// This file has what old API versions were answered with and newer ones are
// not. Handlers work with the newest shapes and pass them through here.

// newestFor is the newest API version that a client is told of. docker-compose 1
// speaks the newest that it is told of, whatever that is, but fails without the
// fields of an image that are gone since 1.45.
func newestFor(userAgent string) string {
	if strings.HasPrefix(userAgent, "docker-compose/1.") {
		return "1.44"
	}
	return MaxAPIVersion
}

// eventFor returns an event as the client's version knows it.
func eventFor(r *request, m events.Message) any {
	if r.since("1.52") {
		return m
	}
	old := struct {
		Status string `json:"status,omitempty"`
		ID     string `json:"id,omitempty"`
		From   string `json:"from,omitempty"`
		events.Message
	}{Message: m}
	switch m.Type {
	case events.ContainerEventType:
		old.Status, old.ID, old.From = string(m.Action), m.Actor.ID, m.Actor.Attributes["image"]
	case events.ImageEventType:
		old.Status, old.ID = string(m.Action), m.Actor.ID
	}
	return old
}

// statsFor returns statistics as the client's version knows them.
func statsFor(r *request, s container.StatsResponse) container.StatsResponse {
	if !r.since("1.52") {
		s.OSType = ""
	}
	return s
}

// commit148 is a system.Commit that says which one was expected.
type commit148 struct{ ID, Expected string }

func newCommit148(c system.Commit) commit148 { return commit148{c.ID, c.ID} }

// registries148 has two fields that were always empty at last.
type registries148 struct {
	*registry.ServiceConfig
	AllowNondistributableArtifactsCIDRs     json.RawMessage
	AllowNondistributableArtifactsHostnames json.RawMessage
}

// info149 is system.Info up to API 1.49; fields of a higher version's type
// are hidden by those of the same name here.
type info149 struct {
	system.Info
	BridgeNfIptables  bool
	BridgeNfIP6tables bool `json:"BridgeNfIp6tables"`
}

// info141 is system.Info up to API 1.41.
type info141 struct {
	info148
	KernelMemory, KernelMemoryTCP bool // limits of memory that cgroup v2 does not tell apart
}

// info148 is system.Info up to API 1.48.
type info148 struct {
	info149
	ContainerdCommit, RuncCommit, InitCommit commit148
	RegistryConfig                           registries148
}

// info124 is system.Info of API 1.24.
type info124 struct {
	info141
	ExecutionDriver string
}

// infoFor returns the answer of GET /info as the client's version knows it.
func infoFor(r *request, info system.Info) any {
	if r.since("1.50") {
		return info
	}
	info.DiscoveredDevices = nil
	old149 := info149{Info: info}
	if r.since("1.49") {
		return old149
	}
	old149.FirewallBackend = nil
	old148 := info148{
		info149:          old149,
		ContainerdCommit: newCommit148(info.ContainerdCommit),
		RuncCommit:       newCommit148(info.RuncCommit),
		InitCommit:       newCommit148(info.InitCommit),
		RegistryConfig:   registries148{ServiceConfig: info.RegistryConfig},
	}
	if r.since("1.42") {
		return old148
	}
	old141 := info141{info148: old148}
	if r.since("1.25") {
		return old141
	}
	var names []string // without "name=" and options
	for _, o := range info.SecurityOptions {
		name, _, _ := strings.Cut(strings.TrimPrefix(o, "name="), ",")
		names = append(names, name)
	}
	old141.SecurityOptions = names
	return info124{old141, "<not supported>"}
}

// diskUsage152 is what GET /system/df answered up to API 1.52.
type diskUsage152 struct {
	LayersSize  int64
	Images      any
	Containers  any
	Volumes     []volume.Volume
	BuildCache  []build.CacheRecord
	BuilderSize *int64 `json:",omitempty"` // up to 1.41
}

func newDiskUsage152(r *request, u system.DiskUsage) *diskUsage152 {
	old := &diskUsage152{}
	if u.ImageUsage != nil {
		old.LayersSize, old.Images = u.ImageUsage.TotalSize, imagesFor(r, u.ImageUsage.Items)
	}
	if u.ContainerUsage != nil {
		old.Containers = containersFor(r, u.ContainerUsage.Items)
	}
	if u.VolumeUsage != nil {
		old.Volumes = u.VolumeUsage.Items
	}
	if u.BuildCacheUsage != nil {
		old.BuildCache = u.BuildCacheUsage.Items
	}
	if !r.since("1.42") {
		old.BuilderSize = new(int64)
	}
	return old
}

// diskUsageFor returns disk usage as the client's version knows it. Objects
// are listed with verbose, and up to 1.51 always; 1.52 answers both ways.
func diskUsageFor(r *request, u system.DiskUsage) any {
	if !r.since("1.52") {
		return newDiskUsage152(r, u)
	}
	verbose := r.flag("verbose")
	var old *diskUsage152
	if !r.since("1.53") && !verbose {
		old = newDiskUsage152(r, u)
	}
	if !verbose {
		u = withoutItems(u)
	}
	return struct {
		system.DiskUsage
		*diskUsage152
	}{u, old}
}

func withoutItems(u system.DiskUsage) system.DiskUsage {
	if c := u.ContainerUsage; c != nil {
		short := *c
		short.Items = nil
		u.ContainerUsage = &short
	}
	if i := u.ImageUsage; i != nil {
		short := *i
		short.Items = nil
		u.ImageUsage = &short
	}
	if v := u.VolumeUsage; v != nil {
		short := *v
		short.Items = nil
		u.VolumeUsage = &short
	}
	if b := u.BuildCacheUsage; b != nil {
		short := *b
		short.Items = nil
		u.BuildCacheUsage = &short
	}
	return u
}
