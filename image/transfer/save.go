package transfer

import (
	"archive/tar"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/events"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/kelp-engine/kelp/engine/fault"
	"github.com/kelp-engine/kelp/image"
)

// Archive is a set of images that is ready to be written.
type Archive struct {
	m      *Manager
	images []savedImage
}

type savedImage struct {
	*image.Image
	layers   []image.LayerInfo
	manifest []byte
	names    []reference.Named
}

// Save prepares an archive of the images that refs mean. A bare repository
// means all its tags; an Id means the image without its names.
func (m *Manager) Save(ctx context.Context, refs []string, wantPlatforms []ocispec.Platform) (*Archive, error) {
	if len(refs) == 0 {
		return nil, fault.InvalidArgument("no image to save is named")
	}
	a := &Archive{m: m}
	for _, ref := range refs {
		names, err := m.savedNames(ctx, ref)
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			if err := a.add(ctx, ref, name); err != nil {
				return nil, err
			}
		}
	}
	for _, im := range a.images {
		if len(wantPlatforms) > 0 && !wanted(im.Platform, wantPlatforms) {
			return nil, fault.NotFound("image %s was found but does not provide the specified platform: it is for %s", im.ID, PlatformText(im.Platform))
		}
	}
	return a, nil
}

// savedNames returns the names that ref stands for; nil in the list means an
// image without a name.
func (m *Manager) savedNames(ctx context.Context, ref string) ([]reference.Named, error) {
	im, resolveErr := m.store.Resolve(ctx, ref)
	parsed, err := reference.ParseAnyReference(ref)
	if err != nil {
		return nil, fault.InvalidArgument("%w", err)
	}
	named, ok := parsed.(reference.Named)
	if !ok {
		return []reference.Named{nil}, resolveErr
	}
	if reference.IsNameOnly(named) {
		if tags, err := m.store.TagsOf(named); err != nil || len(tags) > 0 {
			return tags, err
		}
		return []reference.Named{nil}, resolveErr // part of an Id, or nothing
	}
	if resolveErr != nil {
		return nil, resolveErr
	}
	if _, digested := named.(reference.Digested); digested || !slices.Contains(im.RepoTags, reference.FamiliarString(named)) {
		return []reference.Named{nil}, nil
	}
	return []reference.Named{named}, nil
}

func (a *Archive) add(ctx context.Context, ref string, name reference.Named) error {
	if name != nil {
		ref = name.String()
	}
	im, err := a.m.store.Resolve(ctx, ref)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(a.images, func(s savedImage) bool { return s.ID == im.ID })
	if i < 0 {
		layers, err := a.m.store.Layers(im)
		if err != nil {
			return err
		}
		manifest, err := plainManifest(im, layers)
		if err != nil {
			return err
		}
		a.images = append(a.images, savedImage{Image: im, layers: layers, manifest: manifest})
		i = len(a.images) - 1
	}
	if name != nil && !slices.ContainsFunc(a.images[i].names, func(n reference.Named) bool { return n.String() == name.String() }) {
		a.images[i].names = append(a.images[i].names, name)
	}
	return nil
}

// plainManifest describes an image whose layers are not compressed.
func plainManifest(im *image.Image, layers []image.LayerInfo) ([]byte, error) {
	m := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispec.MediaTypeImageManifest,
		Config:    configDescriptor(im),
		Layers:    []ocispec.Descriptor{},
	}
	for _, l := range layers {
		m.Layers = append(m.Layers, plainLayer(l))
	}
	return json.Marshal(m)
}

func configDescriptor(im *image.Image) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: ocispec.MediaTypeImageConfig, Digest: digest.Digest(im.ID), Size: int64(len(im.RawConfig()))}
}

func plainLayer(l image.LayerInfo) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: l.DiffID, Size: l.Size}
}

// archiveTime is the time of all files in an archive: the same images make
// the same archive.
var archiveTime = time.Unix(0, 0)

// Write writes the archive: an OCI layout that also has the manifest.json of
// older engines. What describes it comes first.
func (a *Archive) Write(ctx context.Context, w io.Writer) error {
	tw := &archiveWriter{tar.NewWriter(w)}
	if err := a.writeDocuments(tw); err != nil {
		return err
	}
	written := map[digest.Digest]bool{}
	for _, im := range a.images {
		for _, doc := range [][]byte{im.manifest, im.RawConfig()} {
			if d := digest.FromBytes(doc); !written[d] {
				written[d] = true
				if err := tw.file(blobPath(d), doc); err != nil {
					return err
				}
			}
		}
		for _, l := range im.layers {
			if written[l.DiffID] {
				continue
			}
			written[l.DiffID] = true
			if err := a.writeLayer(ctx, tw, l); err != nil {
				return err
			}
		}
		a.m.store.Publish(events.ActionSave, im.ID, im.ID)
	}
	return tw.Close()
}

func blobPath(d digest.Digest) string { return "blobs/sha256/" + d.Encoded() }

// savedItem is an item of manifest.json.
type savedItem struct {
	Config       string
	RepoTags     []string
	Layers       []string
	LayerSources map[digest.Digest]ocispec.Descriptor `json:",omitempty"`
}

func (a *Archive) writeDocuments(tw *archiveWriter) error {
	index := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{}}
	items := []savedItem{}
	for _, im := range a.images {
		item := savedItem{Config: blobPath(digest.Digest(im.ID)), LayerSources: map[digest.Digest]ocispec.Descriptor{}}
		for _, l := range im.layers {
			item.Layers = append(item.Layers, blobPath(l.DiffID))
			item.LayerSources[l.DiffID] = plainLayer(l)
		}
		d := ocispec.Descriptor{
			MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromBytes(im.manifest), Size: int64(len(im.manifest)),
			Platform: &im.Platform,
		}
		for _, n := range im.names {
			item.RepoTags = append(item.RepoTags, reference.FamiliarString(n))
			named := d
			named.Annotations = map[string]string{"io.containerd.image.name": n.String(), ocispec.AnnotationRefName: n.(reference.Tagged).Tag()}
			index.Manifests = append(index.Manifests, named)
		}
		if len(im.names) == 0 {
			index.Manifests = append(index.Manifests, d)
		}
		items = append(items, item)
	}
	for _, doc := range []struct {
		name  string
		value any
	}{
		{"oci-layout", ocispec.ImageLayout{Version: ocispec.ImageLayoutVersion}},
		{"index.json", index},
		{"manifest.json", items},
	} {
		b, err := json.Marshal(doc.value)
		if err != nil {
			return err
		}
		if err := tw.file(doc.name, b); err != nil {
			return err
		}
	}
	for _, dir := range []string{"blobs/", "blobs/sha256/"} {
		if err := tw.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir, Mode: 0o755, ModTime: archiveTime}); err != nil {
			return err
		}
	}
	return nil
}

type archiveWriter struct{ *tar.Writer }

func (w *archiveWriter) file(name string, body []byte) error {
	if err := w.header(name, int64(len(body))); err != nil {
		return err
	}
	_, err := w.Write(body)
	return err
}

func (w *archiveWriter) header(name string, size int64) error {
	return w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o444, Size: size, ModTime: archiveTime})
}

func (a *Archive) writeLayer(ctx context.Context, tw *archiveWriter, l image.LayerInfo) error {
	rc, err := a.m.store.OpenLayer(l)
	if err != nil {
		return err
	}
	defer rc.Close()
	if err := tw.header(blobPath(l.DiffID), l.Size); err != nil {
		return err
	}
	h := newHashed(untilDone(ctx, rc))
	if _, err := io.CopyBuffer(tw, h, make([]byte, 256<<10)); err != nil {
		return fmt.Errorf("cannot save layer %s: %w", l.DiffID, err)
	}
	got, err := h.rest()
	if err == nil && got != l.DiffID {
		err = fault.Internal("layer %s has changed in the store: it is now %s", l.DiffID, got)
	}
	return err
}
