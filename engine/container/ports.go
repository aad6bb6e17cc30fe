package container

import (
	"context"
	"net/netip"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/kelp-engine/kelp/engine/keeper"
	"github.com/kelp-engine/kelp/engine/mounts"
	"github.com/kelp-engine/kelp/engine/spec"
)

// Processes runs containers; keeper.Client is the real one.
type Processes interface {
	Start(ctx context.Context, r keeper.StartRequest) (keeper.Started, error)
	Signal(ctx context.Context, ref keeper.Ref, signal int, all bool) error
	Pause(ctx context.Context, id string) error
	Resume(ctx context.Context, id string) error
	Update(ctx context.Context, id string, r specs.LinuxResources) error
}

// Tasks knows what runs; keeper.Client is the real one.
type Tasks interface {
	Tasks(ctx context.Context) ([]keeper.Task, error)
	Watch(ctx context.Context, each func(keeper.Task) error) error
	Forget(ctx context.Context, ref keeper.Ref) error
	Processes(ctx context.Context, id string) ([]int, error)
	Hello(ctx context.Context) (keeper.Hello, error)
}

// Image is what a container takes from its image.
type Image struct {
	ID          string
	Config      dockerspec.DockerOCIImageConfig
	StopTimeout *int
	Parent      string // the image it was made from here, or ""
	Platform    ocispec.Platform
}

// Images resolves references to images and makes root file systems of them.
type Images interface {
	Resolve(ctx context.Context, ref string) (*Image, error)
	// CreateRootFS makes a root file system; a temporary one need not outlive
	// the machine's restart.
	// The image's files belong to whom the container knows under their ids;
	// kept, nil for none, is who the user is in it.
	CreateRootFS(ctx context.Context, containerID, imageID string, temporary bool, kept *spec.IDs) error
	RemoveRootFS(containerID string) error
	RootFSIDs() ([]string, error)
}

// RootFS mounts root file systems and measures them.
type RootFS interface {
	MountRootFS(containerID string) (path string, err error)
	// UnmountRootFS is no error where nothing is mounted.
	UnmountRootFS(containerID string) error
	Changes(containerID string) ([]container.FilesystemChange, error)
	RootFSSize(containerID string) (rw, total int64, err error)
}

// Network is how a running container is connected.
type Network struct {
	// Sandbox to start the container in; "" where the spec says it all.
	Sandbox string
	// Hosts, Hostname and ResolvConf are the contents of the files in /etc;
	// an empty one leaves the image's.
	Hosts, Hostname, ResolvConf []byte
	// Env are variables that come before the container's own.
	Env []string
	// Addresses and HostPorts are for the record.
	Addresses map[string][]netip.Addr
	HostPorts []keeper.Port
}

// Networks connects containers.
type Networks interface {
	Attach(ctx context.Context, r *Record) (*Network, error)
	// Detach undoes Attach, also one that an earlier engine made or that
	// stopped half way.
	Detach(ctx context.Context, containerID string) error
	// Settings are those of the running container, or of the one at rest.
	Settings(r *Record) *container.NetworkSettings
	// Remove forgets a container that is removed.
	Remove(ctx context.Context, containerID string) error
	// Renamed says that the container has a new name.
	Renamed(ctx context.Context, r *Record) error
}

// NetworkUse is told which containers there are.
type NetworkUse interface {
	// Check refuses what a new container cannot ask of networks, and warns of
	// what it will be without.
	Check(r *Record) (warnings []string, err error)
	// Adopt keeps the addresses of a container at rest from others.
	Adopt(r *Record)
}

// Volumes makes and mounts what containers show of outside; volume.Manager is
// the real one.
type Volumes interface {
	// Prepare makes the volumes that the points name, and fills new ones from
	// rootfs, which mounts the container's root file system.
	Prepare(ctx context.Context, containerID string, points []mounts.Point, rootfs func(context.Context) (path string, release func(), err error)) ([]mounts.Point, error)
	Mount(ctx context.Context, containerID string, points []mounts.Point) ([]mounts.Point, error)
	// Shm mounts a tmpfs of that size, in bytes, for a container that shares
	// its IPC namespace, unless it is mounted already. Unmount unmounts it.
	Shm(containerID string, size int64) (path string, err error)
	// Unmount undoes Mount, also one that an earlier engine made.
	Unmount(ctx context.Context, containerID string, points []mounts.Point) error
	// Release ends the container's use of its volumes; with anonymous, those
	// made for it alone are removed.
	Release(ctx context.Context, containerID string, points []mounts.Point, anonymous bool) error
}

// VolumeUse is told after a start of the engine which containers there are.
type VolumeUse interface {
	Adopt(containerID string, points []mounts.Point, running bool)
	// Sweep unmounts what is mounted for no container that Adopt named.
	Sweep() error
}

// Execs knows what was executed in containers; exec.Manager is the real one.
type Execs interface {
	// Of returns the ids of the execs that the container has now.
	Of(containerID string) []string
}

// Publisher hears what happens to containers; events.Bus is one.
type Publisher interface {
	Publish(typ events.Type, action events.Action, id string, attrs map[string]string)
}
