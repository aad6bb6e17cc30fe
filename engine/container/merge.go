package container

import (
	"maps"
	"os"
	"slices"
	"strings"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"

	"github.com/kelp-engine/kelp/engine/fault"
	"github.com/kelp-engine/kelp/engine/mounts"
)

// mergeConfig returns the client's configuration with what the image says
// where the client said nothing.
func mergeConfig(client *container.Config, img *Image) (*container.Config, error) {
	c, i := *client, img.Config
	if c.User == "" {
		c.User = i.User
	}
	if c.WorkingDir == "" {
		c.WorkingDir = i.WorkingDir
	}
	if c.StopSignal == "" {
		c.StopSignal = i.StopSignal
	}
	if c.StopTimeout == nil {
		c.StopTimeout = img.StopTimeout
	}
	if len(c.Shell) == 0 {
		c.Shell = i.Shell
	}
	c.Env = mergeEnv(c.Env, i.Env)
	if c.Labels = merged(i.Labels, c.Labels); c.Labels == nil {
		c.Labels = map[string]string{} // never null, as dockerd's
	}
	c.Volumes = merged(i.Volumes, c.Volumes)
	c.Healthcheck = mergeHealth(c.Healthcheck, i.Healthcheck)
	ports := make(network.PortSet, len(i.ExposedPorts))
	for text := range i.ExposedPorts {
		p, err := network.ParsePort(text)
		if err != nil {
			return nil, fault.InvalidArgument("the image exposes the invalid port %q: %w", text, err)
		}
		ports[p] = struct{}{}
	}
	c.ExposedPorts = merged(ports, c.ExposedPorts)
	mergeCommand(&c, i)
	if len(c.Entrypoint) == 0 && len(c.Cmd) == 0 {
		return nil, fault.InvalidArgument("no command specified")
	}
	return &c, nil
}

// mergeCommand takes the image's command only together with its entrypoint:
// it is made for that one. An entrypoint of one empty string takes the
// image's away.
func mergeCommand(c *container.Config, i dockerspec.DockerOCIImageConfig) {
	if len(c.Entrypoint) == 0 {
		if len(c.Cmd) == 0 {
			c.Cmd = i.Cmd
		}
		if c.Entrypoint == nil {
			c.Entrypoint = i.Entrypoint
		}
	}
	if len(c.Entrypoint) == 1 && c.Entrypoint[0] == "" {
		c.Entrypoint = nil
	}
}

// merged is base with more over it; nil when both are empty.
func merged[M ~map[K]V, K comparable, V any](base, more M) M {
	if len(base)+len(more) == 0 {
		return more
	}
	out := make(M, len(base)+len(more))
	maps.Copy(out, base)
	maps.Copy(out, more)
	return out
}

// mergeEnv adds the image's variables that the client does not set.
func mergeEnv(client, image []string) []string {
	out := slices.Clone(client)
	for _, kv := range image {
		name, _, _ := strings.Cut(kv, "=")
		if !slices.ContainsFunc(client, func(have string) bool {
			haveName, _, _ := strings.Cut(have, "=")
			return haveName == name
		}) {
			out = append(out, kv)
		}
	}
	return out
}

func mergeHealth(client, image *container.HealthConfig) *container.HealthConfig {
	if client == nil || image == nil {
		if client == nil {
			return image
		}
		return client
	}
	h := *client
	if len(h.Test) == 0 {
		h.Test = image.Test
	}
	for _, d := range []struct{ mine, theirs *int64 }{
		{(*int64)(&h.Interval), (*int64)(&image.Interval)},
		{(*int64)(&h.Timeout), (*int64)(&image.Timeout)},
		{(*int64)(&h.StartPeriod), (*int64)(&image.StartPeriod)},
		{(*int64)(&h.StartInterval), (*int64)(&image.StartInterval)},
	} {
		if *d.mine == 0 {
			*d.mine = *d.theirs
		}
	}
	if h.Retries == 0 {
		h.Retries = image.Retries
	}
	return &h
}

// resolveModes turns the names in "container:name" modes into ids, so that
// they mean the same container when it is renamed. One that is not there is
// refused at start, as Docker does: a client that hears of a missing object at
// create takes it for the image.
func (g *registry) resolveModes(h *container.HostConfig) {
	if c, err := g.Find(h.NetworkMode.ConnectedContainer()); err == nil {
		h.NetworkMode = container.NetworkMode("container:" + c.id)
	}
	if c, err := g.Find(h.IpcMode.Container()); err == nil {
		h.IpcMode = container.IpcMode("container:" + c.id)
	}
	if c, err := g.Find(h.PidMode.Container()); err == nil {
		h.PidMode = container.PidMode("container:" + c.id)
	}
}

// mountsOf finds the mount points of a container that VolumesFrom names.
func (g *registry) mountsOf(ref string) ([]mounts.Point, error) {
	c, err := g.Find(ref)
	if err != nil {
		return nil, err
	}
	return c.Snapshot().Mounts, nil
}

// setHostname gives a container that asked for none the name of the host or
// container whose network it shares, else the short form of its id.
func (g *registry) setHostname(r *Record) error {
	if r.Config.Hostname != "" {
		return nil
	}
	r.Config.Hostname = r.ID[:12]
	if c, err := g.Find(r.HostConfig.NetworkMode.ConnectedContainer()); err == nil {
		other := c.Snapshot().Config
		r.Config.Hostname, r.Config.Domainname = other.Hostname, other.Domainname
	}
	if r.HostConfig.NetworkMode.IsHost() || r.HostConfig.UTSMode.IsHost() {
		name, err := os.Hostname()
		if err != nil {
			return fault.Internal("cannot tell the host's name: %w", err)
		}
		r.Config.Hostname = name
	}
	return nil
}
