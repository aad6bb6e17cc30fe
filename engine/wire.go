package engine

import (
	"context"
	"net/netip"
	"slices"
	"sync"

	types "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/api/types/registry"

	"github.com/kelp-engine/kelp/engine/archive"
	"github.com/kelp-engine/kelp/engine/attach"
	"github.com/kelp-engine/kelp/engine/container"
	"github.com/kelp-engine/kelp/engine/exec"
	"github.com/kelp-engine/kelp/engine/mounts"
	"github.com/kelp-engine/kelp/engine/passwd"
	"github.com/kelp-engine/kelp/engine/spec"
	"github.com/kelp-engine/kelp/engine/stats"
	"github.com/kelp-engine/kelp/image"
	"github.com/kelp-engine/kelp/image/transfer"
	"github.com/kelp-engine/kelp/userns/account"
)

// containerImages gives containers what they take from images.
type containerImages struct {
	*image.Store
	host     spec.Host
	dataRoot string
}

// Resolve implements container.Images.
func (s containerImages) Resolve(ctx context.Context, ref string) (*container.Image, error) {
	im, err := s.Store.Resolve(ctx, ref)
	if err != nil {
		return nil, err
	}
	return &container.Image{ID: im.ID, Config: im.Config, StopTimeout: im.StopTimeout, Parent: im.Parent, Platform: im.Platform}, nil
}

// CreateRootFS implements container.Images.
func (s containerImages) CreateRootFS(ctx context.Context, containerID, imageID string, temporary bool, kept *spec.IDs) error {
	var shift image.Shift
	if kept != nil {
		if err := passable(s.dataRoot); err != nil {
			return err
		}
		shift = image.Shift{Users: spec.Mappings(kept.UID, s.host), Groups: spec.Mappings(kept.GID, s.host)}
	}
	return s.Store.CreateRootFS(ctx, containerID, imageID, temporary, shift)
}

// imageUsers tells the image store which containers use an image.
type imageUsers struct{ *container.Manager }

// ContainersOf implements image.Users.
func (u imageUsers) ContainersOf(imageID string) []image.User {
	var users []image.User
	for _, c := range u.All() {
		if r := c.Snapshot(); r.Image == imageID || mountsImage(r, imageID) {
			users = append(users, image.User{ID: r.ID, Name: r.Name, Running: r.State.Running()})
		}
	}
	return users
}

// containerStreams shows containers to those who deal with their processes
// and streams.
type containerStreams struct{ *container.Manager }

func (s containerStreams) lookup(ref string) (*container.Record, types.ContainerState, error) {
	c, err := s.Find(ref)
	if err != nil {
		return nil, "", err
	}
	r := c.Snapshot()
	if r.State == container.Stopping {
		return r, types.StateRunning, nil
	}
	return r, types.ContainerState(r.State), nil
}

// Lookup implements exec.Containers.
func (s containerStreams) Lookup(ref string) (exec.Container, error) {
	r, state, err := s.lookup(ref)
	if err != nil {
		return exec.Container{}, err
	}
	return exec.Container{ID: r.ID, State: state, PID: r.Process.PID, Config: r.Config, HostConfig: r.HostConfig}, nil
}

// LookupAttach implements attach.Containers.
func (s containerStreams) LookupAttach(ref string) (attach.Container, error) {
	r, state, err := s.lookup(ref)
	if err != nil {
		return attach.Container{}, err
	}
	return attach.Container{ID: r.ID, State: state, TTY: r.Config.Tty, OpenStdin: r.Config.OpenStdin}, nil
}

// LookupStats implements stats.Containers.
func (s containerStreams) LookupStats(ref string) (stats.Container, error) {
	r, _, err := s.lookup(ref)
	if err != nil {
		return stats.Container{}, err
	}
	return stats.Container{ID: r.ID, Name: r.Name, Running: r.State.Running()}, nil
}

// PublishOf implements exec.Containers and attach.Containers.
func (s containerStreams) PublishOf(id string, action events.Action, attrs ...string) {
	if c, err := s.Find(id); err == nil {
		s.Publish(c, action, attrs...)
	}
}

// systemContainers reports on containers as a whole.
type systemContainers struct{ *container.Manager }

// States implements system.Containers.
func (s systemContainers) States() []types.ContainerState {
	var states []types.ContainerState
	for _, c := range s.All() {
		state := c.Snapshot().State
		if state == container.Stopping {
			state = container.Running
		}
		states = append(states, types.ContainerState(state))
	}
	return states
}

// SummariesWithSize implements system.Containers.
func (s systemContainers) SummariesWithSize(ctx context.Context) ([]types.Summary, error) {
	return s.List(ctx, container.ListOptions{All: true, Size: true})
}

// introduction returns container.Options.Introduce. Who the user is may take
// a directory service, so it is asked once.
func introduction(h spec.Host) func(string, spec.IDs, []string) error {
	known := sync.OnceValue(func() passwd.User {
		a := account.Of(int(h.User.UID))
		return passwd.User{Name: a.Name, Gecos: a.Gecos, Home: a.Home, Group: account.Group(int(h.User.GID))}
	})
	return func(rootfs string, kept spec.IDs, mounted []string) error {
		u := known()
		u.UID, u.GID = kept.UID, kept.GID
		return passwd.Introduce(rootfs, u, mounted)
	}
}

// systemImages reports on images as a whole.
type systemImages struct{ *image.Store }

// Count implements system.Images.
func (s systemImages) Count(ctx context.Context) (int, error) {
	list, err := s.List(ctx, image.ListOptions{})
	return len(list), err
}

// archiveContainers tells the archives of containers.
type archiveContainers struct {
	*container.Manager
	host spec.Host
}

// Find implements archive.Containers.
func (a archiveContainers) Find(ref string) (archive.Container, error) {
	c, err := a.Manager.Find(ref)
	if err != nil {
		return archive.Container{}, err
	}
	r := c.Snapshot()
	out := archive.Container{ID: r.ID, Name: r.Name, User: r.Config.User, Mounts: r.Mounts, ReadOnly: r.HostConfig.ReadonlyRootfs}
	if r.State.Running() {
		out.Process = r.Process
	}
	kept, err := spec.KeptIDs(r.HostConfig, a.host)
	if err != nil {
		return out, err
	}
	if out.User, err = spec.UserOf(r.Config.User, r.HostConfig, a.host); err != nil {
		return out, err
	}
	if kept != nil {
		out.IDs = archive.IDs{Users: spec.Mappings(kept.UID, a.host), Groups: spec.Mappings(kept.GID, a.host)}
	}
	return out, nil
}

// Publish implements archive.Containers.
func (a archiveContainers) Publish(id string, action events.Action) {
	if c, err := a.Manager.Find(id); err == nil {
		a.Manager.Publish(c, action)
	}
}

// mountsImage says whether the container has a mount of the image.
func mountsImage(r *container.Record, imageID string) bool {
	return slices.ContainsFunc(r.Mounts, func(p mounts.Point) bool { return p.Type == mount.TypeImage && p.ImageID == imageID })
}

// volumeImages gives images to mount into containers.
type volumeImages struct{ *image.Store }

// ResolveImage implements volume.Images.
func (s volumeImages) ResolveImage(ctx context.Context, ref string) (string, error) {
	im, err := s.Resolve(ctx, ref)
	if err != nil {
		return "", err
	}
	return im.ID, nil
}

// registries describes how images are fetched.
func registries(insecure transfer.Insecure) *registry.ServiceConfig {
	c := &registry.ServiceConfig{
		InsecureRegistryCIDRs: append([]netip.Prefix{netip.MustParsePrefix("::1/128"), netip.MustParsePrefix("127.0.0.0/8")}, insecure.Nets...),
		IndexConfigs: map[string]*registry.IndexInfo{
			"docker.io": {Name: "docker.io", Mirrors: []string{}, Secure: true, Official: true},
		},
		Mirrors: []string{},
	}
	for _, host := range insecure.Hosts {
		c.IndexConfigs[host] = &registry.IndexInfo{Name: host, Mirrors: []string{}}
	}
	return c
}
