// Package image owns the images and the container root file systems of kelp:
// the containers/storage store below the data root.
//
// An image's Id is the digest of its configuration. References (tags and
// digests) are the names that the store keeps with an image, so one write
// moves a reference; nothing else remembers them.
//
// It must not know the Engine API's transport or registries; image/transfer
// brings images in and out.
package image

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"sync"

	"github.com/moby/moby/api/types/events"
	"go.podman.io/storage"

	"github.com/kelp-engine/kelp/userns/reserve"
)

// Options say where a store lies and what it works with.
type Options struct {
	// GraphRoot keeps images and containers; RunRoot what may be lost when
	// the machine restarts.
	GraphRoot, RunRoot string
	// Driver is "overlay", "fuse-overlayfs" or "vfs"; "" takes the first of
	// these that works here, or the one that GraphRoot already has.
	Driver string
	// SharedStores are stores of others that are read only.
	SharedStores []string
	// IgnoreOwner keeps files owned by the user where a layer's owner does
	// not exist in the user namespace.
	IgnoreOwner bool
	// Reserve is space for removing things from a full disk.
	Reserve reserve.Reserve
	// Events hears what happens to images; nil tells nobody.
	Events Publisher
}

// Publisher hears of changes; engine/events is one.
type Publisher interface {
	Publish(typ events.Type, action events.Action, id string, attrs map[string]string)
}

// User is a container that was made from an image.
type User struct {
	ID, Name string
	Running  bool
}

// Users knows which containers use an image.
type Users interface {
	ContainersOf(imageID string) []User
}

// Store holds images and container root file systems. Its methods may be
// called at the same time.
type Store struct {
	*core
	rootFSs
	remover
}

// core is what all parts of a Store share: the library's store, references
// and locks.
type core struct {
	store  storage.Store
	driver driverChoice
	tmp    string
	opaque string
	events Publisher
	spare  reserve.Reserve
	ignore bool

	// gc keeps layers that an image is being made of from being collected:
	// makers of images hold it for reading, removers for writing.
	gc sync.RWMutex
	// writes puts changes of names and records in one order.
	writes sync.Mutex
	// mounting keeps the mounting of a container's root file system apart from
	// unmounting and removing it.
	mounting stripes

	mu      sync.Mutex
	users   Users
	configs map[string]*document // by storage id; documents never change

	complained map[string]bool
}

// Open opens the store, repairs what an earlier process left half done and
// makes it if there is none.
func Open(o Options) (*Store, error) {
	if o.GraphRoot == "" || o.RunRoot == "" {
		return nil, errors.New("the image store needs a graph root and a run root")
	}
	// The library reads the storage.conf of podman before it looks at the
	// options it is given; kelp's store is none of podman's business.
	if err := os.Setenv("CONTAINERS_STORAGE_CONF", os.DevNull); err != nil {
		return nil, err
	}
	st, choice, err := openDriver(o)
	if err != nil {
		return nil, err
	}
	s := &core{
		store:   st,
		driver:  choice,
		tmp:     filepath.Join(o.GraphRoot, "tmp"),
		opaque:  opaqueXattr(),
		events:  o.Events,
		spare:   o.Reserve,
		ignore:  o.IgnoreOwner,
		configs: map[string]*document{},

		mounting:   stripes{seed: maphash.MakeSeed()},
		complained: map[string]bool{},
	}
	if err := s.repair(); err != nil {
		return nil, fmt.Errorf("cannot repair the image store in %s: %w", o.GraphRoot, err)
	}
	return &Store{core: s, rootFSs: rootFSs{layers{s}}, remover: remover{catalog{s}}}, nil
}

// repair removes what no finished operation left behind: files in work, and
// layers that belong to neither an image nor a container.
func (s *core) repair() error {
	// The library cleans its staging directory only when it is shut down.
	for _, dir := range []string{s.tmp, filepath.Join(s.store.GraphRoot(), s.store.GraphDriverName(), "staging")} {
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(s.tmp, 0o700); err != nil {
		return err
	}
	if err := s.store.GarbageCollect(); err != nil {
		slog.Warn("some leftovers in the image store stay", "error", err)
	}
	s.gc.Lock()
	defer s.gc.Unlock()
	removed, err := s.removeOrphans()
	if removed > 0 {
		slog.Info("removed layers of interrupted operations", "layers", removed)
	}
	return err
}

// removeOrphans removes layers that nothing stands on. Only layers that kelp
// made for images and containers are in the store, so all others are leftovers.
//
// Preconditions: gc is held for writing.
func (s *core) removeOrphans() (removed int, err error) {
	for {
		list, err := s.store.MultiList(storage.MultiListOptions{Images: true, Layers: true})
		if err != nil {
			return removed, err
		}
		needed, tops := map[string]bool{}, map[string]bool{}
		for _, im := range list.Images {
			needed[im.TopLayer], tops[im.TopLayer] = true, true
			for _, l := range im.MappedTopLayers {
				needed[l] = true
			}
		}
		for _, l := range list.Layers {
			needed[l.Parent] = true
		}
		found := false
		for _, l := range list.Layers {
			if needed[l.ID] || l.ReadOnly || isRootFS(&l) || isShifted(&l) && l.Metadata == shiftedWhole && tops[l.Parent] {
				continue
			}
			if err := s.store.DeleteLayer(l.ID); err != nil {
				return removed, fmt.Errorf("cannot remove the leftover layer %s: %w", l.ID, err)
			}
			removed++
			found = true
		}
		if !found {
			return removed, nil
		}
	}
}

// SetUsers tells the store who knows the containers of an image. Until then
// no image counts as used.
func (s *core) SetUsers(u Users) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.users = u
}

func (s *core) usersOf(imageID string) []User {
	s.mu.Lock()
	u := s.users
	s.mu.Unlock()
	if u == nil {
		return nil
	}
	return u.ContainersOf(imageID)
}

// Driver names the storage driver, and why it is not the preferred one.
func (s *core) Driver() (name, reason string) { return s.driver.name, s.driver.reason }

// DriverStatus returns the driver's details for people.
func (s *core) DriverStatus() ([][2]string, error) { return s.store.Status() }

// TempDir is a directory for large temporary files, on the same file system
// as the layers. It is emptied when the store is opened.
func (s *core) TempDir() string { return s.tmp }

// Close releases the store. Root file systems stay mounted: containers run on.
func (s *core) Close() error {
	s.store.Free()
	return nil
}

// Publish tells of an image event the way Docker words it: with the labels of
// the image and a name.
func (s *core) Publish(action events.Action, id, name string) {
	if s.events == nil {
		return
	}
	im, err := s.Resolve(context.Background(), id)
	if err != nil {
		im = &Image{}
	}
	s.publishOf(im, action, id, name)
}

func (s *core) publishOf(im *Image, action events.Action, id, name string) {
	if s.events == nil {
		return
	}
	attrs := map[string]string{}
	maps.Copy(attrs, im.Config.Labels)
	if name != "" {
		attrs["name"] = name
	}
	s.events.Publish(events.ImageEventType, action, id, attrs)
}

// complain logs an image that cannot be read, once.
func (s *core) complain(storeID string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.complained[storeID] {
		s.complained[storeID] = true
		slog.Warn("an image cannot be read", "image", storeID, "error", err)
	}
}
