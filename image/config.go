package image

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/kelp-engine/kelp/engine/fault"
)

// runConfig is an image's run configuration as it stands in the document.
type runConfig struct {
	dockerspec.DockerOCIImageConfig
	StopTimeout *int `json:",omitempty"`
}

// fromContainer makes an image's run configuration of a container's.
func fromContainer(c *container.Config) runConfig {
	r := runConfig{StopTimeout: c.StopTimeout}
	r.ImageConfig = ocispec.ImageConfig{
		User:       c.User,
		Env:        slices.Clone(c.Env),
		Entrypoint: slices.Clone(c.Entrypoint),
		Cmd:        slices.Clone(c.Cmd),
		Volumes:    maps.Clone(c.Volumes),
		WorkingDir: c.WorkingDir,
		Labels:     maps.Clone(c.Labels),
		StopSignal: c.StopSignal,
	}
	if len(c.ExposedPorts) > 0 {
		r.ExposedPorts = map[string]struct{}{}
		for p := range c.ExposedPorts {
			r.ExposedPorts[p.String()] = struct{}{}
		}
	}
	r.DockerOCIImageConfigExt = dockerspec.DockerOCIImageConfigExt{
		Healthcheck: c.Healthcheck,
		OnBuild:     slices.Clone(c.OnBuild),
		Shell:       slices.Clone(c.Shell),
	}
	return r
}

// ContainerConfig returns the image's run configuration as a container's.
func (im *Image) ContainerConfig() (*container.Config, error) {
	c := &container.Config{
		User:         im.Config.User,
		Env:          slices.Clone(im.Config.Env),
		Entrypoint:   slices.Clone(im.Config.Entrypoint),
		Cmd:          slices.Clone(im.Config.Cmd),
		Volumes:      maps.Clone(im.Config.Volumes),
		WorkingDir:   im.Config.WorkingDir,
		Labels:       maps.Clone(im.Config.Labels),
		StopSignal:   im.Config.StopSignal,
		StopTimeout:  im.StopTimeout,
		Healthcheck:  im.Config.Healthcheck,
		OnBuild:      slices.Clone(im.Config.OnBuild),
		Shell:        slices.Clone(im.Config.Shell),
		ExposedPorts: network.PortSet{},
	}
	for text := range im.Config.ExposedPorts {
		p, err := network.ParsePort(text)
		if err != nil {
			return nil, fault.InvalidArgument("image %s exposes the invalid port %q: %w", im.ID, text, err)
		}
		c.ExposedPorts[p] = struct{}{}
	}
	return c, nil
}

// mergeConfig fills what user leaves open from base, as `docker commit` does.
func mergeConfig(user, base *container.Config) {
	if user.User == "" {
		user.User = base.User
	}
	if len(user.ExposedPorts) == 0 {
		user.ExposedPorts = base.ExposedPorts
	} else {
		ports := maps.Clone(base.ExposedPorts)
		if ports == nil {
			ports = network.PortSet{}
		}
		maps.Copy(ports, user.ExposedPorts)
		user.ExposedPorts = ports
	}
	user.Env = mergeEnv(user.Env, base.Env)
	user.Labels = mergeMap(user.Labels, base.Labels)
	user.Volumes = mergeMap(user.Volumes, base.Volumes)
	if len(user.Entrypoint) == 0 {
		if len(user.Cmd) == 0 {
			user.Cmd = base.Cmd
		}
		if user.Entrypoint == nil {
			user.Entrypoint = base.Entrypoint
		}
	}
	if user.WorkingDir == "" {
		user.WorkingDir = base.WorkingDir
	}
	if user.StopSignal == "" {
		user.StopSignal = base.StopSignal
	}
	if user.StopTimeout == nil {
		user.StopTimeout = base.StopTimeout
	}
	if user.Shell == nil {
		user.Shell = base.Shell
	}
	if user.OnBuild == nil {
		user.OnBuild = base.OnBuild
	}
	user.Healthcheck = mergeHealth(user.Healthcheck, base.Healthcheck)
}

func mergeHealth(user, base *container.HealthConfig) *container.HealthConfig {
	if user == nil || base == nil {
		if user == nil {
			return base
		}
		return user
	}
	h := *user
	if len(h.Test) == 0 {
		h.Test = base.Test
	}
	if h.Interval == 0 {
		h.Interval = base.Interval
	}
	if h.Timeout == 0 {
		h.Timeout = base.Timeout
	}
	if h.StartPeriod == 0 {
		h.StartPeriod = base.StartPeriod
	}
	if h.StartInterval == 0 {
		h.StartInterval = base.StartInterval
	}
	if h.Retries == 0 {
		h.Retries = base.Retries
	}
	return &h
}

// mergeEnv adds the variables of base that user does not set.
func mergeEnv(user, base []string) []string {
	set := map[string]bool{}
	for _, kv := range user {
		name, _, _ := strings.Cut(kv, "=")
		set[name] = true
	}
	merged := slices.Clone(user)
	for _, kv := range base {
		if name, _, _ := strings.Cut(kv, "="); !set[name] {
			merged = append(merged, kv)
		}
	}
	return merged
}

func mergeMap[V any](user, base map[string]V) map[string]V {
	if len(base) == 0 {
		return user
	}
	m := maps.Clone(base)
	maps.Copy(m, user)
	return m
}

// imageDocument is a configuration document that kelp writes.
type imageDocument struct {
	ocispec.Image
	Config    runConfig `json:"config,omitempty"`
	Comment   string    `json:"comment,omitempty"`
	Container string    `json:"container,omitempty"`
}

func (d *imageDocument) encode() ([]byte, error) {
	b, err := json.Marshal(d)
	if err != nil {
		return nil, fmt.Errorf("cannot write the image's configuration: %w", err)
	}
	return b, nil
}

// NewConfig writes the configuration document of a new image.
func NewConfig(im ocispec.Image, run *container.Config) ([]byte, error) {
	d := imageDocument{Image: im, Config: fromContainer(run)}
	return d.encode()
}
