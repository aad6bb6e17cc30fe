package docker

import (
	"errors"
	"fmt"

	"github.com/containerd/errdefs"
	"github.com/docker/cli/cli/command"
	"github.com/docker/cli/cli/config"
	"github.com/docker/cli/cli/context/docker"
	"github.com/docker/cli/cli/context/store"
)

// ContextName is the name of the docker context that leads to kelp.
const ContextName = "kelp"

const contextDescription = "kelp, the container engine of this user"

func contexts() *store.ContextStore {
	return store.New(config.ContextStoreDir(), command.DefaultContextStoreConfig())
}

// SetContext makes the docker context kelp lead to the socket, and says
// whether that is a change. One of that name that kelp did not make is left
// alone, and an error.
func SetContext(socket string) (changed bool, err error) {
	s, host := contexts(), "unix://"+socket
	now, err := endpoint(s)
	switch {
	case errdefs.IsNotFound(err):
	case err != nil:
		return false, fmt.Errorf("cannot read the docker context %s: %w", ContextName, err)
	case now == host:
		return false, nil
	}
	err = s.CreateOrUpdate(store.Metadata{
		Name:      ContextName,
		Metadata:  command.DockerContext{Description: contextDescription},
		Endpoints: map[string]any{docker.DockerEndpoint: docker.EndpointMeta{Host: host}},
	})
	if err != nil {
		return false, fmt.Errorf("cannot make the docker context %s: %w", ContextName, err)
	}
	return true, nil
}

// RemoveContext removes the docker context kelp, and says whether there was
// one. Where it is the client's current one, the default takes its place.
func RemoveContext() (removed bool, err error) {
	s := contexts()
	if _, err := endpoint(s); errdefs.IsNotFound(err) {
		return false, nil
	}
	if cfg, err := config.Load(config.Dir()); err == nil && cfg.CurrentContext == ContextName {
		cfg.CurrentContext = ""
		if err := cfg.Save(); err != nil {
			return false, fmt.Errorf("cannot leave the docker context %s: %w", ContextName, err)
		}
	}
	if err := s.Remove(ContextName); err != nil {
		return false, fmt.Errorf("cannot remove the docker context %s: %w", ContextName, err)
	}
	return true, nil
}

// endpoint is where the docker context kelp leads.
func endpoint(s store.Reader) (host string, err error) {
	meta, err := s.GetMetadata(ContextName)
	if err != nil {
		return "", err
	}
	if description, ok := meta.Metadata.(command.DockerContext); !ok || description.Description != contextDescription {
		return "", errors.New("it was not made by kelp")
	}
	ep, err := docker.EndpointFromContext(meta)
	return ep.Host, err
}
