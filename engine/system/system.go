// Package system describes the engine as a whole to its clients: what it runs
// on, what it can and cannot do, what it holds and how much space that takes.
//
// It changes nothing, and knows the kinds of objects only by what they report.
package system

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"sync"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/registry"
	"github.com/moby/moby/api/types/system"
	"github.com/moby/moby/api/types/volume"

	"github.com/kelp-engine/kelp/engine/record"
	"github.com/kelp-engine/kelp/engine/spec"
	"github.com/kelp-engine/kelp/userns/cgroup"
)

// Containers reports on containers.
type Containers interface {
	// States lists the state of every container.
	States() []container.ContainerState
	// SummariesWithSize lists every container and the space it takes.
	SummariesWithSize(ctx context.Context) ([]container.Summary, error)
}

// Images reports on images; image.Store is the real one.
type Images interface {
	Usage(ctx context.Context, verbose bool) (image.DiskUsage, error)
	// Driver names the storage driver, and says why if it is not the best.
	Driver() (name, reason string)
	DriverStatus() ([][2]string, error)
	// Count is the number of images.
	Count(ctx context.Context) (int, error)
}

// Volumes reports on volumes; volume.Manager is the real one.
type Volumes interface {
	Usage(ctx context.Context) ([]volume.Volume, error)
}

// Networks reports on networks; network.Manager is the real one.
type Networks interface {
	// Drivers names those of which there can be networks.
	Drivers(ctx context.Context) []string
}

// Options are what a Manager works with.
type Options struct {
	Dir      string // where the engine's own record lies
	DataRoot string
	Debug    bool
	Version  string
	Host     spec.Host
	Cgroups  cgroup.Info
	// Pools are what the user chose for networks' addresses.
	Pools []system.NetworkAddressPool
	// Registries say how images are fetched.
	Registries *registry.ServiceConfig

	Containers Containers
	Images     Images
	Volumes    Volumes
	Networks   Networks
	// Listeners is the number of clients that watch events.
	Listeners func() int
}

// Manager answers questions about the engine.
type Manager struct {
	o  Options
	id string

	versions func() []Component // of the parts kelp is made of
}

// identity is the record of the engine itself.
type identity struct {
	ID string `json:"id"`
}

// New returns a manager. The first one on a data root gives the engine its id.
func New(o Options) (*Manager, error) {
	store, err := record.NewStore[identity](o.Dir, record.Options{Schema: 1})
	if err != nil {
		return nil, err
	}
	known, err := store.Load("identity")
	if errors.Is(err, fs.ErrNotExist) {
		known = &identity{ID: newID()}
		err = store.Save("identity", known)
	}
	if err != nil {
		return nil, err
	}
	return &Manager{o: o, id: known.ID, versions: sync.OnceValue(components)}, nil
}

// newID returns a random UUID.
func newID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
