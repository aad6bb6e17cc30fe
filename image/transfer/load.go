package transfer

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"strings"

	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/jsonstream"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/kelp-engine/kelp/engine/fault"
	"github.com/kelp-engine/kelp/image"
)

// LoadOptions say how an archive is loaded.
type LoadOptions struct {
	// Quiet leaves out the progress of layers.
	Quiet bool
	// Platforms, if any, are those of the images that are loaded.
	Platforms []ocispec.Platform
}

// loadable is an image that an archive offers.
type loadable struct {
	config []byte
	layers []archived
	names  []reference.Named
}

// Load stores the images of an archive: what `docker save` writes, old or
// new, or an OCI layout, plain or compressed. An archive that is not wholly
// in order leaves nothing behind.
func (m *Manager) Load(ctx context.Context, r io.Reader, o LoadOptions, progress Progress) error {
	note := func(name string, size int64) func(io.Reader) io.Reader {
		if o.Quiet {
			return func(r io.Reader) io.Reader { return r }
		}
		return func(r io.Reader) io.Reader { return newMeter(r, size, layerName(name), "Loading layer", progress) }
	}
	a, err := readArchive(ctx, m.store, r, note)
	if err != nil {
		return err
	}
	images, err := a.images(o.Platforms)
	if err == nil {
		err = m.storeLoaded(ctx, a, images, progress)
	}
	return errors.Join(err, a.close())
}

// layerName is how progress calls a layer's file.
func layerName(name string) string {
	if d, ok := blobDigest(name); ok {
		return shortID(d)
	}
	dir, _, _ := strings.Cut(name, "/")
	return dir[:min(12, len(dir))]
}

func (m *Manager) storeLoaded(ctx context.Context, a *archive, images []loadable, progress Progress) error {
	for _, l := range images {
		for _, n := range l.names {
			tellMoved(ctx, m.store, n, digest.FromBytes(l.config), progress)
		}
		im, err := m.store.Assemble(ctx, image.Draft{Config: l.config, Names: l.names}, a.staged)
		if err != nil {
			return err
		}
		m.store.Publish(events.ActionLoad, im.ID, im.ID)
		for _, n := range l.names {
			progress(jsonstream.Message{Stream: "Loaded image: " + reference.FamiliarString(n) + "\n"})
		}
		if len(l.names) == 0 {
			progress(jsonstream.Message{Stream: "Loaded image ID: " + im.ID + "\n"})
		}
	}
	return nil
}

// tellMoved says that a reference is about to leave another image.
func tellMoved(ctx context.Context, store *image.Store, n reference.Named, id digest.Digest, progress Progress) {
	old, err := store.Resolve(ctx, n.String())
	if err == nil && old.ID != id.String() {
		progress(jsonstream.Message{Stream: "The image " + reference.FamiliarString(n) +
			" already exists, renaming the old one with ID " + old.ID + " to empty string\n"})
	}
}

// images reads what the archive offers, checked against its layers.
func (a *archive) images(platforms []ocispec.Platform) ([]loadable, error) {
	var images []loadable
	var err error
	if _, ok := a.documents["manifest.json"]; ok {
		images, err = a.dockerImages()
	} else if _, ok := a.documents["index.json"]; ok {
		images, err = a.ociImages(platforms)
	} else {
		return nil, a.explain(invalidArchive(errNoImage))
	}
	if err != nil || len(platforms) == 0 {
		return images, err
	}
	for _, im := range images {
		info, err := image.CheckConfig(im.config)
		if err != nil {
			return nil, err
		}
		if !wanted(info.Platform, platforms) {
			return nil, fault.NotFound("the archive's image is for %s, which does not match the specified platform", PlatformText(info.Platform))
		}
	}
	return images, nil
}

func wanted(have ocispec.Platform, platforms []ocispec.Platform) bool {
	for _, p := range platforms {
		if MatchesPlatform(have, p) {
			return true
		}
	}
	return false
}

// manifestItem is one image of manifest.json.
type manifestItem struct {
	Config   string
	RepoTags []string
	Layers   []string
}

func (a *archive) dockerImages() ([]loadable, error) {
	var items []manifestItem
	if err := json.Unmarshal(a.documents["manifest.json"], &items); err != nil {
		return nil, fault.InvalidArgument("invalid image archive: cannot read manifest.json: %w", err)
	}
	if len(items) == 0 {
		return nil, fault.InvalidArgument("invalid image archive: manifest.json names no image")
	}
	var images []loadable
	for _, item := range items {
		config, err := a.document(item.Config)
		if err != nil {
			return nil, err
		}
		l := loadable{config: config}
		if l.layers, err = a.matchLayers(config, item.Layers); err != nil {
			return nil, err
		}
		for _, tag := range item.RepoTags {
			named, err := reference.ParseNormalizedNamed(tag)
			if err != nil || reference.IsNameOnly(named) {
				return nil, fault.InvalidArgument("invalid tag %q in the image archive", tag)
			}
			l.names = append(l.names, named)
		}
		images = append(images, l)
	}
	return images, nil
}

// matchLayers checks the layers' files against the configuration.
func (a *archive) matchLayers(config []byte, files []string) ([]archived, error) {
	info, err := image.CheckConfig(config)
	if err != nil {
		return nil, err
	}
	if len(files) != len(info.DiffIDs) {
		return nil, fault.InvalidArgument("invalid manifest, layers length mismatch: expected %d, got %d", len(info.DiffIDs), len(files))
	}
	layers := make([]archived, len(files))
	for i, f := range files {
		if layers[i], err = a.layer(f, info.DiffIDs[i]); err != nil {
			return nil, err
		}
	}
	return layers, nil
}

// ociImages reads the images of an OCI layout's index.
func (a *archive) ociImages(platforms []ocispec.Platform) ([]loadable, error) {
	var index ocispec.Index
	if err := json.Unmarshal(a.documents["index.json"], &index); err != nil {
		return nil, fault.InvalidArgument("invalid image archive: cannot read index.json: %w", err)
	}
	var images []loadable
	for _, d := range index.Manifests {
		if isAttestation(d) {
			continue
		}
		l, err := a.ociImage(d, platforms, 0)
		if err != nil {
			return nil, err
		}
		if name, ok := ociName(d.Annotations); ok {
			l.names = []reference.Named{name}
		}
		images = mergeNames(images, l)
	}
	if len(images) == 0 {
		return nil, fault.InvalidArgument("invalid image archive: index.json names no image")
	}
	return images, nil
}

// mergeNames adds l; an image that is there already only gets the names.
func mergeNames(images []loadable, l loadable) []loadable {
	id := digest.FromBytes(l.config)
	for i := range images {
		if digest.FromBytes(images[i].config) == id {
			images[i].names = append(images[i].names, l.names...)
			return images
		}
	}
	return append(images, l)
}

// ociName is the reference that an index gives to an image: containerd's, or
// the standard one when it is more than a bare tag.
func ociName(annotations map[string]string) (reference.Named, bool) {
	for _, key := range []string{"io.containerd.image.name", ocispec.AnnotationRefName} {
		text := annotations[key]
		if !strings.ContainsAny(text, ":/") {
			continue
		}
		named, err := reference.ParseNormalizedNamed(text)
		if err == nil {
			return reference.TagNameOnly(named), true
		}
	}
	return nil, false
}

// ociImage reads the image that a descriptor leads to, through at most one
// index in between.
func (a *archive) ociImage(d ocispec.Descriptor, platforms []ocispec.Platform, depth int) (loadable, error) {
	doc, err := a.blob(d.Digest, d.Size)
	if err != nil {
		return loadable{}, err
	}
	if isIndex(d.MediaType, doc) {
		if depth > 1 {
			return loadable{}, fault.InvalidArgument("invalid image archive: indexes lie too deep in each other")
		}
		choice, err := chooseManifest(doc, platforms)
		if err != nil {
			return loadable{}, err
		}
		return a.ociImage(choice, platforms, depth+1)
	}
	var m ocispec.Manifest
	if err := json.Unmarshal(doc, &m); err != nil {
		return loadable{}, fault.InvalidArgument("invalid image archive: cannot read manifest %s: %w", d.Digest, err)
	}
	config, err := a.blob(m.Config.Digest, m.Config.Size)
	if err != nil {
		return loadable{}, err
	}
	files := make([]string, len(m.Layers))
	for i, l := range m.Layers {
		if l.Digest.Validate() != nil {
			return loadable{}, fault.InvalidArgument("invalid image archive: %q is no digest", l.Digest)
		}
		files[i] = "blobs/sha256/" + l.Digest.Encoded()
	}
	layers, err := a.matchLayers(config, files)
	if err != nil {
		return loadable{}, err
	}
	for i, l := range layers {
		if l.blob != m.Layers[i].Digest {
			return loadable{}, fault.InvalidArgument("invalid image archive: layer %s has the digest %s", m.Layers[i].Digest, l.blob)
		}
	}
	return loadable{config: config, layers: layers}, nil
}
