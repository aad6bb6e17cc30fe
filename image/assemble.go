package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.podman.io/storage"
	"golang.org/x/sys/unix"

	"github.com/kelp-engine/kelp/engine/crashpoint"
	"github.com/kelp-engine/kelp/engine/fault"
)

// Draft is an image that is about to be stored.
type Draft struct {
	// Config is the configuration document; its digest becomes the Id.
	Config []byte
	// Manifest, if not nil, is the registry's manifest of the image.
	Manifest []byte
	// Names are the references that the image gets.
	Names []reference.Named
	// Parent is the Id of the image that this one was made from here, or "".
	Parent string
}

// MissingLayers says which layers of a draft are neither in the store nor
// staged.
type MissingLayers struct{ DiffIDs []digest.Digest }

func (e *MissingLayers) Error() string {
	return fmt.Sprintf("%d layers of the image are missing", len(e.DiffIDs))
}

// ConfigInfo is what a configuration document says about its layers.
type ConfigInfo struct {
	DiffIDs  []digest.Digest
	Platform ocispec.Platform
}

// CheckConfig reads and checks a configuration document.
func CheckConfig(raw []byte) (ConfigInfo, error) {
	d, err := parseConfig(raw)
	if err != nil {
		return ConfigInfo{}, err
	}
	return ConfigInfo{DiffIDs: d.RootFS.DiffIDs, Platform: d.Platform}, nil
}

// Has reports whether the store has the last of these layers with the others
// below it, so that an image of them needs nothing else. The answer may be out
// of date at once; Assemble decides.
func (s layers) Has(diffIDs []digest.Digest) bool { return s.hasLayer(chainLayer(diffIDs)) }

// HasDiff reports whether the store has a layer with this content, on
// whatever layers below it.
func (s layers) HasDiff(id digest.Digest) bool {
	found, err := s.store.LayersByUncompressedDigest(id)
	return err == nil && len(found) > 0
}

// DiffOf returns the content digest of a layer of the store that came with
// this digest in compressed form.
func (s layers) DiffOf(compressed digest.Digest) (digest.Digest, bool) {
	found, err := s.store.LayersByCompressedDigest(compressed)
	if err != nil || len(found) == 0 {
		return "", false
	}
	return found[0].UncompressedDigest, true
}

// chainLayer is the store's id of the layer with these layers below it.
func chainLayer(diffIDs []digest.Digest) string {
	return identity.ChainID(diffIDs).Encoded()
}

func (s layers) hasLayer(id string) bool {
	l, err := s.store.Layer(id)
	return err == nil && l.ID == id
}

// Assemble makes an image of layers that are in the store or staged, and
// gives it its names. Staged layers that are used belong to the store from
// then on; the caller still discards all of them. When layers are missing the
// error is *MissingLayers and nothing has changed.
func (s layers) Assemble(_ context.Context, draft Draft, staged map[digest.Digest]*Staged) (*Image, error) {
	d, err := parseConfig(draft.Config)
	if err != nil {
		return nil, err
	}
	if d.OS != "linux" {
		return nil, fault.InvalidArgument("cannot load %s image on linux", d.OS)
	}
	if len(staged) > 0 { // most of it, before others have to wait
		if err := syncStore(s.store); err != nil {
			return nil, err
		}
	}
	s.gc.RLock()
	defer s.gc.RUnlock()
	s.writes.Lock()
	defer s.writes.Unlock()

	if err := s.checkLayers(d.RootFS.DiffIDs, staged); err != nil {
		return nil, err
	}
	top, undo, err := s.commitLayers(d.RootFS.DiffIDs, staged)
	if err != nil {
		return nil, errors.Join(err, undo())
	}
	crashpoint.Hit("image.assemble.made-layers")
	im, err := s.putImage(draft, d, top)
	if err != nil {
		return nil, errors.Join(err, undo())
	}
	crashpoint.Hit("image.assemble.recorded")
	layers, err := s.layersOf(top)
	if err != nil {
		return nil, err
	}
	return s.view(im, layers)
}

func (s layers) checkLayers(diffIDs []digest.Digest, staged map[digest.Digest]*Staged) error {
	var missing MissingLayers
	for i, id := range diffIDs {
		if staged[id] == nil && !s.hasLayer(chainLayer(diffIDs[:i+1])) && !s.HasDiff(id) {
			missing.DiffIDs = append(missing.DiffIDs, id)
		}
	}
	if missing.DiffIDs != nil {
		return &missing
	}
	return nil
}

// commitLayers makes the layers, lowest first; undo removes those it made.
func (s layers) commitLayers(diffIDs []digest.Digest, staged map[digest.Digest]*Staged) (top string, undo func() error, err error) {
	var made []string
	undo = func() (err error) {
		for i := len(made) - 1; i >= 0; i-- {
			err = errors.Join(err, s.store.DeleteLayer(made[i]))
		}
		return err
	}
	for i, diffID := range diffIDs {
		id := chainLayer(diffIDs[:i+1])
		if !s.hasLayer(id) {
			if err := s.commitOne(id, top, diffID, staged); err != nil {
				return "", undo, fmt.Errorf("cannot add layer %s: %w", diffID, err)
			}
			made = append(made, id)
		}
		top = id
	}
	if len(made) > 0 {
		err = syncStore(s.store)
	}
	return top, undo, err
}

// syncStore has all that was written survive a power cut, as the record of
// what it is for will.
func syncStore(store storage.Store) error {
	dir, err := os.Open(store.GraphRoot())
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := unix.Syncfs(int(dir.Fd())); err != nil {
		return fmt.Errorf("cannot write the image's layers to the disk: %w", err)
	}
	return nil
}

func (s layers) commitOne(id, parent string, diffID digest.Digest, staged map[digest.Digest]*Staged) error {
	st := staged[diffID]
	if st == nil || st.used() {
		// The same layer stands on another parent, in this image or another:
		// this one is made of it.
		return s.copyLayer(id, parent, diffID)
	}
	return st.commit(id, parent)
}

func (s layers) copyLayer(id, parent string, diffID digest.Digest) error {
	found, err := s.store.LayersByUncompressedDigest(diffID)
	if err != nil {
		return fault.Internal("layer %s has vanished from the store: %w", diffID, err)
	}
	rc, err := s.layerDiff(&found[0])
	if err != nil {
		return err
	}
	st, err := s.Stage(context.Background(), rc)
	if err := errors.Join(err, rc.Close()); err != nil { // closed before the commit, which locks the store
		return err
	}
	if st.DiffID != diffID {
		return errors.Join(fault.Internal("layer %s has changed in the store", diffID), st.Discard())
	}
	return st.commit(id, parent)
}

// putImage writes the image's record, or adds to the one that is there.
func (s layers) putImage(draft Draft, d *document, top string) (*storage.Image, error) {
	configDigest := digest.FromBytes(draft.Config)
	id := configDigest.Encoded()
	names := make([]string, len(draft.Names))
	for i, n := range draft.Names {
		names[i] = n.String()
	}
	manifest := draft.Manifest
	if manifest == nil {
		var err error
		if manifest, err = localManifest(draft.Config, d); err != nil {
			return nil, err
		}
	}
	now := time.Now().UTC()
	edit := func(m *metadata) {
		if draft.Parent != "" {
			m.Parent = draft.Parent
		}
		if len(names) > 0 {
			m.LastTag = &now
		}
	}
	meta, err := setMetadata("", edit)
	if err != nil {
		return nil, err
	}
	manifestDigest := digest.FromBytes(manifest)
	options := &storage.ImageOptions{
		CreationDate: now,
		Digest:       manifestDigest,
		BigData: []storage.ImageBigDataOption{
			{Key: configDigest.String(), Data: draft.Config, Digest: configDigest},
			{Key: storage.ImageDigestBigDataKey, Data: manifest, Digest: manifestDigest},
		},
	}
	_, err = s.store.CreateImage(id, names, top, meta, options)
	if errors.Is(err, storage.ErrDuplicateName) {
		// Another image has the name: only AddNames moves it.
		_, err = s.store.CreateImage(id, nil, top, meta, options)
		if err == nil {
			err = s.store.AddNames(id, names)
		}
	}
	if errors.Is(err, storage.ErrDuplicateID) {
		if err = s.store.AddNames(id, names); err == nil {
			err = s.editMetadata(id, edit)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("cannot record image %s: %w", configDigest, err)
	}
	return s.store.Image(id)
}

// localManifest describes an image that came without a manifest, with its
// layers as they are here: other programs that read the store expect one.
func localManifest(config []byte, d *document) ([]byte, error) {
	m := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispec.MediaTypeImageManifest,
		Config:    ocispec.Descriptor{MediaType: ocispec.MediaTypeImageConfig, Digest: digest.FromBytes(config), Size: int64(len(config))},
		Layers:    []ocispec.Descriptor{},
	}
	for _, id := range d.RootFS.DiffIDs {
		m.Layers = append(m.Layers, ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: id, Size: -1})
	}
	return json.Marshal(m)
}
