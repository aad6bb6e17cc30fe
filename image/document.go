package image

import (
	"encoding/json"
	"time"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.podman.io/storage"

	"github.com/kelp-engine/kelp/engine/fault"
)

// MaxConfig and MaxManifest bound the JSON documents of an image, in bytes.
const (
	MaxConfig   = 8 << 20
	MaxManifest = 4 << 20
	maxLayers   = 500 // overlay itself takes as many lower directories
)

// Image is an image of the store. It is a snapshot: later changes of its
// references do not show.
type Image struct {
	// ID is the digest of the configuration, sha256:….
	ID string
	// Config is how containers of the image run.
	Config dockerspec.DockerOCIImageConfig
	// StopTimeout is Docker's own addition to Config, in seconds.
	StopTimeout *int
	// Platform is what the image runs on.
	Platform ocispec.Platform
	// Created is when the image says that it was made, or zero.
	Created                        time.Time
	Author, Comment, DockerVersion string
	// Container and ContainerConfig tell what container was committed.
	Container string
	// Parent is the Id of the image that this one was made from here, or "".
	Parent string
	// History and DiffIDs describe the layers, lowest first.
	History []ocispec.History
	DiffIDs []digest.Digest
	// RepoTags and RepoDigests are the references, in their short form.
	RepoTags, RepoDigests []string
	// LastTagTime is when a reference was last given, or zero.
	LastTagTime time.Time
	// Size is the size of all layers.
	Size int64

	raw      []byte
	storeID  string
	topLayer string
	names    []string
	added    time.Time
}

// RawConfig returns the configuration document, whose digest is the Id.
func (im *Image) RawConfig() []byte { return im.raw }

// document is a decoded configuration.
type document struct {
	dockerspec.DockerOCIImage
	raw           []byte
	Comment       string `json:"comment"`
	DockerVersion string `json:"docker_version"`
	Container     string `json:"container"`
	stopTimeout   *int
}

// parseConfig decodes and checks a configuration document.
func parseConfig(raw []byte) (*document, error) {
	if len(raw) > MaxConfig {
		return nil, fault.InvalidArgument("invalid image: its configuration is larger than %d bytes", MaxConfig)
	}
	d := &document{raw: raw}
	if err := json.Unmarshal(raw, d); err != nil {
		return nil, fault.InvalidArgument("invalid image: cannot read its configuration: %w", err)
	}
	var extra struct {
		Config struct{ StopTimeout *int }
	}
	if err := json.Unmarshal(raw, &extra); err != nil {
		return nil, fault.InvalidArgument("invalid image: cannot read its configuration: %w", err)
	}
	d.stopTimeout = extra.Config.StopTimeout
	if d.RootFS.Type != "layers" {
		return nil, fault.InvalidArgument("invalid image: its root file system has type %q, not \"layers\"", d.RootFS.Type)
	}
	if len(d.RootFS.DiffIDs) > maxLayers {
		return nil, fault.InvalidArgument("invalid image: it has %d layers; the limit is %d", len(d.RootFS.DiffIDs), maxLayers)
	}
	for _, id := range d.RootFS.DiffIDs {
		if err := id.Validate(); err != nil || id.Algorithm() != digest.SHA256 {
			return nil, fault.InvalidArgument("invalid image: %q is not the digest of a layer", id)
		}
	}
	if d.OS == "" {
		d.OS = "linux" // images from before the field
	}
	return d, nil
}

// metadata is what kelp keeps with an image besides its configuration. Other
// programs' fields in the same document stay.
type metadata struct {
	Parent  string     `json:"kelp-parent,omitempty"`
	LastTag *time.Time `json:"kelp-last-tag,omitempty"`
}

func parseMetadata(text string) metadata {
	var m metadata
	_ = json.Unmarshal([]byte(text), &m) // empty, or written by others: nothing known
	return m
}

// setMetadata returns text with edit applied, keeping unknown fields.
func setMetadata(text string, edit func(*metadata)) (string, error) {
	fields := map[string]json.RawMessage{}
	_ = json.Unmarshal([]byte(text), &fields)
	m := parseMetadata(text)
	edit(&m)
	own, err := json.Marshal(m)
	if err != nil {
		return "", err
	}
	delete(fields, "kelp-parent")
	delete(fields, "kelp-last-tag")
	if err := json.Unmarshal(own, &fields); err != nil {
		return "", err
	}
	b, err := json.Marshal(fields)
	return string(b), err
}

// document returns the configuration of a stored image.
func (s *core) document(im *storage.Image) (*document, error) {
	s.mu.Lock()
	d := s.configs[im.ID]
	s.mu.Unlock()
	if d != nil {
		return d, nil
	}
	raw, err := s.store.ImageBigData(im.ID, "sha256:"+im.ID)
	if err != nil {
		return nil, fault.Internal("image %s has lost its configuration: %w", im.ID, err).
			WithHint("remove it with 'docker rmi %s' and pull it again", im.ID[:12])
	}
	if d, err = parseConfig(raw); err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.configs[im.ID] = d
	s.mu.Unlock()
	return d, nil
}

// view makes the Image of a stored image. sizes are the sizes of layers.
func (s *core) view(im *storage.Image, layers layerIndex) (*Image, error) {
	d, err := s.document(im)
	if err != nil {
		return nil, err
	}
	m := parseMetadata(im.Metadata)
	v := &Image{
		ID:            "sha256:" + im.ID,
		Config:        d.Config,
		StopTimeout:   d.stopTimeout,
		Platform:      d.Platform,
		Author:        d.Author,
		Comment:       d.Comment,
		DockerVersion: d.DockerVersion,
		Container:     d.Container,
		Parent:        m.Parent,
		History:       d.History,
		DiffIDs:       d.RootFS.DiffIDs,
		Size:          layers.chainSize(im.TopLayer),
		raw:           d.raw,
		storeID:       im.ID,
		topLayer:      im.TopLayer,
		names:         im.Names,
		added:         im.Created,
	}
	if d.Created != nil {
		v.Created = *d.Created
	}
	if m.LastTag != nil {
		v.LastTagTime = *m.LastTag
	}
	v.RepoTags, v.RepoDigests = splitNames(im.Names)
	return v, nil
}

// layerIndex is every layer by its id.
type layerIndex map[string]*storage.Layer

// layers returns the layers below and including top.
func (ix layerIndex) chain(top string) []*storage.Layer {
	var c []*storage.Layer
	for id := top; id != ""; {
		l := ix[id]
		if l == nil {
			break
		}
		c = append(c, l)
		id = l.Parent
	}
	return c
}

func (ix layerIndex) chainSize(top string) (n int64) {
	for _, l := range ix.chain(top) {
		n += max(l.UncompressedSize, 0)
	}
	return n
}

// layersOf returns the layers of one image.
func (s *core) layersOf(top string) (layerIndex, error) {
	ix := layerIndex{}
	for id := top; id != ""; {
		l, err := s.store.Layer(id)
		if err != nil {
			return nil, fault.Internal("layer %s is missing from the store: %w", id, err)
		}
		ix[l.ID] = l
		id = l.Parent
	}
	return ix, nil
}
