package image

import (
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"go.podman.io/storage"
	"go.podman.io/storage/pkg/idtools"

	"github.com/kelp-engine/kelp/engine/crashpoint"
)

// shiftedFlag marks the layer that holds all files of an image under other
// ids, for the containers that are made on it. The kernel lets no ordinary
// user show files under other ids, so they have to be copied: once for an
// image and a Shift. Such a copy goes with the image, or when unused images do.
const shiftedFlag = "kelp-shifted"

// shiftedWhole is the metadata of a copy that would survive a power cut. The
// next start removes others.
const shiftedWhole = "whole"

func isShifted(l *storage.Layer) bool {
	_, ok := l.Flags[shiftedFlag]
	return ok
}

// maps are the store's form of a Shift.
func (sh Shift) maps() storage.LayerIDMappingOptions {
	return storage.LayerIDMappingOptions{UIDMap: idMaps(sh.Users), GIDMap: idMaps(sh.Groups)}
}

func idMaps(list []specs.LinuxIDMapping) []idtools.IDMap {
	var out []idtools.IDMap
	for _, m := range list {
		out = append(out, idtools.IDMap{ContainerID: int(m.ContainerID), HostID: int(m.HostID), Size: int(m.Size)})
	}
	return out
}

// shifted returns the copy of the layers up to top, which it makes if there is
// none. Several who want it wait for the one that makes it.
//
// Preconditions: gc is held for reading.
func (s rootFSs) shifted(top string, maps storage.LayerIDMappingOptions) (string, error) {
	if len(maps.UIDMap) == 0 || top == "" {
		return top, nil
	}
	id := digest.FromString(fmt.Sprint(top, maps.UIDMap, maps.GIDMap)).Encoded()
	if s.hasLayer(id) {
		return id, nil
	}
	_, err := s.store.CreateLayer(id, top, nil, "", false, &storage.LayerOptions{
		Flags:            map[string]any{shiftedFlag: true},
		IDMappingOptions: maps,
	})
	if errors.Is(err, storage.ErrDuplicateID) {
		return id, nil
	}
	if err != nil {
		return "", err
	}
	crashpoint.Hit("image.shift.copied")
	if err := syncStore(s.store); err != nil {
		return "", err
	}
	return id, s.store.SetMetadata(id, shiftedWhole)
}

// dropShifted removes the copies of a top layer, or all with "", that no
// container is made on, and returns them.
//
// Preconditions: gc is held for writing.
func (s remover) dropShifted(top string) (dropped []string, err error) {
	list, err := s.store.Layers()
	if err != nil {
		return nil, err
	}
	used := map[string]bool{}
	for _, l := range list {
		used[l.Parent] = true
	}
	for _, l := range list {
		if !isShifted(&l) || used[l.ID] || top != "" && l.Parent != top {
			continue
		}
		err := s.spare.Removing(func() error { return s.store.DeleteLayer(l.ID) })
		if err != nil {
			return dropped, fmt.Errorf("cannot remove the copy %s of an image's files: %w", l.ID, err)
		}
		dropped = append(dropped, l.ID)
		crashpoint.Hit("image.shift.dropped")
	}
	return dropped, nil
}

// shiftedSizes are the sizes of the copies there are, by layer, and of all
// those together that a container is made on.
func (ix layerIndex) shiftedSizes() (sizes map[string]int64, used int64) {
	sizes = map[string]int64{}
	for id, l := range ix {
		if isShifted(l) {
			sizes[id] = ix.chainSize(l.Parent)
		}
	}
	counted := map[string]bool{}
	for _, l := range ix {
		if !counted[l.Parent] {
			counted[l.Parent] = true
			used += sizes[l.Parent]
		}
	}
	return sizes, used
}

func mappings(l *storage.Layer) *idtools.IDMappings {
	return idtools.NewIDMappingsFromMaps(l.UIDMap, l.GIDMap)
}

// parentMappings are those of what a root file system is made on: its own, or
// none where it has a copy of the image to itself.
func (s rootFSs) parentMappings(l *storage.Layer) *idtools.IDMappings {
	if parent, err := s.store.Layer(l.Parent); err == nil {
		return mappings(parent)
	}
	return &idtools.IDMappings{}
}

// outside is what a container's id 0 is mapped to.
func outside(maps []idtools.IDMap) int {
	for _, m := range maps {
		if m.ContainerID == 0 {
			return m.HostID
		}
	}
	return 0
}
