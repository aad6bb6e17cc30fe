package image

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"go.podman.io/storage"
	"go.podman.io/storage/pkg/archive"

	"github.com/kelp-engine/kelp/engine/fault"
)

// rootFSs is the part of a Store that keeps containers' root file systems.
type rootFSs struct{ layers }

// rootFSFlag marks the layer of a container's root file system and holds the
// Id of its image. No more than the layer is needed: the layers below it stay
// when the image is deleted by force.
const rootFSFlag = "kelp-rootfs"

// temporaryFlag marks one that need not outlive the machine.
const temporaryFlag = "kelp-temporary"

// Shift says which ids of the store's files stand for those of an image, in a
// container with a user namespace of its own. The zero value changes none.
type Shift struct{ Users, Groups []specs.LinuxIDMapping }

// CreateRootFS makes the root file system of a container from an image, or an
// empty one when imageID is "". It is no error when it is there already, made
// from the same image. A temporary one survives the engine but not a restart
// of the machine; making, using and ending it does not wait for the disk.
func (s rootFSs) CreateRootFS(_ context.Context, containerID, imageID string, temporary bool, shift Shift) error {
	s.gc.RLock()
	defer s.gc.RUnlock()
	if l, err := s.rootFS(containerID); err == nil {
		if l.Flags[rootFSFlag] != imageID {
			return fault.Conflict("the root file system of container %s is made from another image", containerID)
		}
		return nil
	}
	top, maps := "", shift.maps()
	if imageID != "" {
		im, err := s.byID(imageID, imageID)
		if err != nil {
			return err
		}
		if top, err = s.shifted(im.TopLayer, maps); err != nil {
			return fmt.Errorf("cannot copy the image's files for container %s: %w", containerID, err)
		}
	}
	flags := map[string]any{rootFSFlag: imageID}
	if temporary {
		flags[temporaryFlag] = true
	}
	_, err := s.store.CreateLayer(containerID, top, nil, "", true, &storage.LayerOptions{
		Flags:            flags,
		Volatile:         temporary,
		IDMappingOptions: maps,
	})
	if err != nil {
		return fmt.Errorf("cannot make the root file system of container %s: %w", containerID, err)
	}
	return nil
}

// rootFS finds the layer of a container.
func (s rootFSs) rootFS(containerID string) (*storage.Layer, error) {
	l, err := s.store.Layer(containerID)
	if errors.Is(err, storage.ErrLayerUnknown) || err == nil && (l.ID != containerID || !isRootFS(l)) {
		return nil, fault.NotFound("container %s has no root file system", containerID)
	}
	return l, err
}

func isRootFS(l *storage.Layer) bool {
	_, ok := l.Flags[rootFSFlag]
	return ok
}

// RemoveRootFS unmounts and removes the root file system. It is no error when
// there is none.
func (s rootFSs) RemoveRootFS(containerID string) error {
	held := s.mounting.of(containerID)
	held.RLock()
	defer held.RUnlock()
	_, err := s.rootFS(containerID)
	if errdefs.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if _, err := s.store.Unmount(containerID, true); err != nil && !errors.Is(err, storage.ErrLayerNotMounted) {
		return fmt.Errorf("cannot unmount the root file system of container %s: %w", containerID, err)
	}
	err = s.spare.Removing(func() error { return s.store.DeleteLayer(containerID) })
	if err != nil && !errors.Is(err, storage.ErrLayerUnknown) {
		return fmt.Errorf("cannot remove the root file system of container %s: %w", containerID, err)
	}
	return nil
}

// RootFSIDs returns the containers that have a root file system.
func (s rootFSs) RootFSIDs() ([]string, error) {
	list, err := s.store.Layers()
	if err != nil {
		return nil, err
	}
	var ids []string
	for i := range list {
		if isRootFS(&list[i]) {
			ids = append(ids, list[i].ID)
		}
	}
	return ids, nil
}

// RootFSImage returns the Id of the image that the root file system is made
// from, or "". The image may be gone.
func (s rootFSs) RootFSImage(containerID string) (string, error) {
	l, err := s.rootFS(containerID)
	if err != nil {
		return "", err
	}
	id, _ := l.Flags[rootFSFlag].(string)
	return id, nil
}

// mountPoints are the files and directories that the runtime makes in a root
// file system to mount things on. Empty, they are no changes of the user's.
var mountPoints = []string{
	"/.dockerenv", "/dev", "/dev/console", "/dev/pts", "/dev/shm", "/dev/mqueue",
	"/etc", "/etc/hostname", "/etc/hosts", "/etc/mtab", "/etc/resolv.conf", "/proc", "/sys",
	"/run", "/run/secrets",
}

// Changes lists what differs from the image, sorted by path.
func (s rootFSs) Changes(containerID string) ([]container.FilesystemChange, error) {
	l, err := s.rootFS(containerID)
	if err != nil {
		return nil, err
	}
	driver, err := s.store.GraphDriver()
	if err != nil {
		return nil, err
	}
	list, err := driver.Changes(l.ID, mappings(l), l.Parent, s.parentMappings(l), "")
	if err != nil {
		return nil, fmt.Errorf("cannot compare container %s with its image: %w", containerID, err)
	}
	skip := stubs(list)
	changes := []container.FilesystemChange{}
	for _, ch := range list {
		if !skip[ch.Path] {
			changes = append(changes, container.FilesystemChange{Kind: container.ChangeType(ch.Kind), Path: ch.Path})
		}
	}
	slices.SortFunc(changes, func(a, b container.FilesystemChange) int { return strings.Compare(a.Path, b.Path) })
	return changes, nil
}

// stubs are the changes that are mount points only: a mount point that was
// added, or a directory that changed, with nothing but stubs below it.
func stubs(list []archive.Change) map[string]bool {
	stub := map[string]bool{}
	for _, ch := range list {
		if slices.Contains(mountPoints, ch.Path) && ch.Kind != archive.ChangeDelete {
			stub[ch.Path] = true
		}
	}
	for _, ch := range list {
		if stub[ch.Path] {
			continue
		}
		for p := path.Dir(ch.Path); p != "/"; p = path.Dir(p) {
			delete(stub, p)
		}
	}
	return stub
}

// RootFSSize returns the bytes that the container has written, and those
// together with its image's.
func (s rootFSs) RootFSSize(containerID string) (rw, total int64, err error) {
	l, err := s.rootFS(containerID)
	if err != nil {
		return 0, 0, err
	}
	driver, err := s.store.GraphDriver()
	if err != nil {
		return 0, 0, err
	}
	usage, err := driver.ReadWriteDiskUsage(l.ID)
	if err != nil {
		return 0, 0, fmt.Errorf("cannot measure container %s: %w", containerID, err)
	}
	layers, err := s.layersOf(l.Parent)
	if err != nil {
		return 0, 0, err
	}
	return usage.Size, usage.Size + layers.chainSize(l.Parent), nil
}

// MountImage mounts an image read-only, for a mount of type image. release
// unmounts it.
func (s rootFSs) MountImage(ctx context.Context, ref string) (string, func() error, error) {
	im, err := s.Resolve(ctx, ref)
	if err != nil {
		return "", nil, err
	}
	p, err := s.store.MountImage(im.storeID, nil, "")
	if err != nil {
		return "", nil, fmt.Errorf("cannot mount image %s: %w", ref, err)
	}
	return p, func() error {
		_, err := s.store.UnmountImage(im.storeID, false)
		return err
	}, nil
}
