package image

import (
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.podman.io/storage"
	"go.podman.io/storage/pkg/archive"

	"github.com/kelp-engine/kelp/engine/fault"
	"github.com/kelp-engine/kelp/image/layer"
)

// LayerInfo describes one layer of a stored image.
type LayerInfo struct {
	DiffID digest.Digest
	// Size is the length of the plain tar stream.
	Size int64
	// Blob is a compressed form of the layer that registries may have, if one
	// is known.
	Blob *ocispec.Descriptor

	id string
}

// Layers returns the layers of the image, lowest first.
func (s layers) Layers(im *Image) ([]LayerInfo, error) {
	ix, err := s.layersOf(im.topLayer)
	if err != nil {
		return nil, err
	}
	chain := ix.chain(im.topLayer)
	infos := make([]LayerInfo, len(chain))
	for i, l := range chain {
		infos[len(chain)-1-i] = LayerInfo{DiffID: l.UncompressedDigest, Size: l.UncompressedSize, Blob: blobOf(l), id: l.ID}
	}
	if len(infos) != len(im.DiffIDs) {
		return nil, fault.Internal("image %s has %d layers in the store, but its configuration names %d", im.ID, len(infos), len(im.DiffIDs))
	}
	for i := range infos {
		infos[i].DiffID = im.DiffIDs[i]
	}
	return infos, nil
}

// blobOf reads what Came or Remember wrote.
func blobOf(l *storage.Layer) *ocispec.Descriptor {
	d := &ocispec.Descriptor{}
	if json.Unmarshal([]byte(l.Metadata), d) != nil || d.Digest.Validate() != nil {
		return nil
	}
	return d
}

// Remember records a compressed form of the layer.
func (s layers) Remember(l LayerInfo, blob ocispec.Descriptor) error {
	text, err := json.Marshal(blob)
	if err != nil {
		return err
	}
	s.writes.Lock()
	defer s.writes.Unlock()
	return s.store.SetMetadata(l.id, string(text))
}

// Manifest returns the manifest that the image came with from a registry, or
// one that describes it as it is here.
func (s layers) Manifest(im *Image) ([]byte, error) {
	return s.store.ImageBigData(im.storeID, storage.ImageDigestBigDataKey)
}

// OpenLayer returns the plain tar stream of a layer, byte for byte as it came.
func (s layers) OpenLayer(l LayerInfo) (io.ReadCloser, error) {
	sl, err := s.store.Layer(l.id)
	if err != nil {
		return nil, fault.Internal("cannot read layer %s: %w", l.DiffID, err)
	}
	return s.layerDiff(sl)
}

// layerDiff makes the layer's stream from its tar-split record and its files.
// The library's own Diff would lock the whole store until the stream is read.
func (s layers) layerDiff(l *storage.Layer) (io.ReadCloser, error) {
	dir, err := s.layerDir(l)
	if err != nil {
		return nil, err
	}
	split, err := os.Open(tarSplitPath(s.store, l))
	if errors.Is(err, fs.ErrNotExist) {
		return s.lockedDiff(l)
	}
	if err != nil {
		return nil, fault.Internal("cannot read layer %s: %w", l.ID, err)
	}
	rc, err := layer.Stream(split, dir)
	if err != nil {
		return nil, fault.Internal("cannot read layer %s: %w", l.ID, err)
	}
	return rc, nil
}

// layerDir is where the layer's own files lie.
func (s layers) layerDir(l *storage.Layer) (string, error) {
	if s.store.GraphDriverName() == driverVFS {
		return filepath.Join(s.store.GraphRoot(), driverVFS, "dir", l.ID), nil
	}
	driver, err := s.store.GraphDriver()
	if err != nil {
		return "", err
	}
	paths, err := driver.Metadata(l.ID)
	if err != nil || paths["UpperDir"] == "" {
		return "", fault.Internal("cannot read layer %s: its directory is not known: %w", l.ID, err)
	}
	return paths["UpperDir"], nil
}

// tarSplitPath is where the library keeps the headers of a layer's stream. A
// layer of a shared store has none at this place.
func tarSplitPath(store storage.Store, l *storage.Layer) string {
	return filepath.Join(store.GraphRoot(), store.GraphDriverName()+"-layers", l.ID+".tar-split.gz")
}

func (s layers) lockedDiff(l *storage.Layer) (io.ReadCloser, error) {
	plain := archive.Uncompressed
	rc, err := s.store.Diff(l.Parent, l.ID, &storage.DiffOptions{Compression: &plain})
	if err != nil {
		return nil, fault.Internal("cannot read layer %s: %w", l.ID, err)
	}
	return rc, nil
}
