package images

import (
	"archive/tar"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Layout is a set of blobs and the manifests that name them: what an OCI
// layout or a registry's repository holds.
type Layout struct {
	Blobs map[digest.Digest][]byte
	Index ocispec.Index
}

// NewLayout returns an empty layout.
func NewLayout() *Layout {
	return &Layout{
		Blobs: map[digest.Digest][]byte{},
		Index: ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex},
	}
}

// Put stores a blob and returns its descriptor.
func (l *Layout) Put(mediaType string, body []byte) ocispec.Descriptor {
	d := digest.FromBytes(body)
	l.Blobs[d] = body
	return ocispec.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(body))}
}

func (l *Layout) putJSON(mediaType string, doc any) (ocispec.Descriptor, error) {
	b, err := json.Marshal(doc)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	return l.Put(mediaType, b), nil
}

// AddImage stores the image's blobs, with layers in compression c, and returns
// its manifest's descriptor. The index does not name it yet: see Tag.
func (l *Layout) AddImage(im *Image, c Compression) (ocispec.Descriptor, error) {
	var diffIDs []string
	var layers []ocispec.Descriptor
	for _, layer := range im.Layers {
		b, err := layer.Tar()
		if err != nil {
			return ocispec.Descriptor{}, err
		}
		diffIDs = append(diffIDs, digest.FromBytes(b).String())
		if b, err = Compress(b, c); err != nil {
			return ocispec.Descriptor{}, err
		}
		mediaType := ocispec.MediaTypeImageLayer
		if c != None {
			mediaType += "+" + string(c)
		}
		layers = append(layers, l.Put(mediaType, b))
	}
	config, err := l.putJSON(ocispec.MediaTypeImageConfig, im.config(diffIDs))
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	return l.putJSON(ocispec.MediaTypeImageManifest, ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispec.MediaTypeImageManifest,
		Config:    config,
		Layers:    layers,
	})
}

// AddIndex stores an index of one manifest for each image's platform.
func (l *Layout) AddIndex(c Compression, ims ...*Image) (ocispec.Descriptor, error) {
	index := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex}
	for _, im := range ims {
		d, err := l.AddImage(im, c)
		if err != nil {
			return ocispec.Descriptor{}, err
		}
		d.Platform = &im.Platform
		index.Manifests = append(index.Manifests, d)
	}
	return l.putJSON(ocispec.MediaTypeImageIndex, index)
}

// Tag makes the layout's own index name d. ref is what the reader finds under
// org.opencontainers.image.ref.name; "" leaves d without a name.
func (l *Layout) Tag(d ocispec.Descriptor, ref string) {
	if ref != "" {
		d.Annotations = map[string]string{ocispec.AnnotationRefName: ref}
	}
	l.Index.Manifests = append(l.Index.Manifests, d)
}

// files calls f for each file of the layout, in a fixed order.
func (l *Layout) files(f func(name string, body []byte) error) error {
	if err := f(ocispec.ImageLayoutFile, []byte(`{"imageLayoutVersion":"1.0.0"}`)); err != nil {
		return err
	}
	index, err := json.Marshal(l.Index)
	if err != nil {
		return err
	}
	if err := f(ocispec.ImageIndexFile, index); err != nil {
		return err
	}
	for _, d := range slices.Sorted(maps.Keys(l.Blobs)) {
		if err := f(fmt.Sprintf("blobs/%s/%s", d.Algorithm(), d.Encoded()), l.Blobs[d]); err != nil {
			return err
		}
	}
	return nil
}

// WriteDir writes the layout as a directory.
func (l *Layout) WriteDir(dir string) error {
	return l.files(func(name string, body []byte) error {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		return os.WriteFile(path, body, 0o644)
	})
}

// WriteTar writes the layout as an OCI archive.
func (l *Layout) WriteTar(w io.Writer) error {
	out := tar.NewWriter(w)
	if err := l.files(func(name string, body []byte) error { return writeFile(out, name, body) }); err != nil {
		return err
	}
	return out.Close()
}
