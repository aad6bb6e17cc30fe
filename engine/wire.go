package engine

import (
	"context"

	"github.com/moby/moby/api/types/container"

	manager "github.com/kelp-engine/kelp/engine/container"
	"github.com/kelp-engine/kelp/engine/fault"
)

// noImages stands where the image store will.
type noImages struct{}

func (noImages) Resolve(_ context.Context, ref string) (*manager.Image, error) {
	return nil, fault.NotFound("No such image: %s", ref)
}

func (noImages) CreateRootFS(context.Context, string, string) error {
	return fault.NotImplemented("images are not there yet")
}
func (noImages) RemoveRootFS(string) error    { return nil }
func (noImages) RootFSIDs() ([]string, error) { return nil, nil }
func (noImages) MountRootFS(string) (string, error) {
	return "", fault.NotImplemented("images are not there yet")
}
func (noImages) UnmountRootFS(string) error              { return nil }
func (noImages) RootFSSize(string) (int64, int64, error) { return 0, 0, nil }
func (noImages) Changes(string) ([]container.FilesystemChange, error) {
	return nil, fault.NotImplemented("images are not there yet")
}

// noNetworks connects containers that want no network of their own.
type noNetworks struct{}

func (noNetworks) Attach(_ context.Context, r *manager.Record) (*manager.Network, error) {
	mode := r.HostConfig.NetworkMode
	if mode.IsNone() || mode.IsHost() || mode.IsContainer() {
		return &manager.Network{}, nil
	}
	return nil, fault.NotImplemented("the network mode %q is not there yet", mode).WithHint("use --network none or host")
}
func (noNetworks) Detach(context.Context, string) error { return nil }
func (noNetworks) Remove(context.Context, string) error { return nil }
func (noNetworks) Settings(*manager.Record) *container.NetworkSettings {
	return &container.NetworkSettings{}
}
