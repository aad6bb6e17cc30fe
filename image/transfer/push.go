package transfer

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"

	"github.com/distribution/reference"
	"github.com/klauspost/pgzip"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/jsonstream"
	"github.com/moby/moby/api/types/registry"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.podman.io/image/v5/manifest"
	"go.podman.io/image/v5/types"
	"golang.org/x/sync/errgroup"

	"github.com/kelp-engine/kelp/engine/fault"
	"github.com/kelp-engine/kelp/image"
)

// PushOptions say what is pushed.
type PushOptions struct {
	// Reference is the tag; a bare repository means all its tags.
	Reference string
	// Platform, unless nil, has to be the image's.
	Platform *ocispec.Platform
	// Auth is what the client sent.
	Auth registry.AuthConfig
}

// pushResult is the aux of a push's last message.
type pushResult struct {
	Tag    string
	Digest string
	Size   int
}

// Push sends an image to the registry that its reference names.
func (m *Manager) Push(ctx context.Context, o PushOptions, progress Progress) error {
	named, err := parseRemote(o.Reference)
	if err != nil {
		return err
	}
	if _, ok := named.(reference.Digested); ok {
		return fault.InvalidArgument("cannot push a digest reference")
	}
	tags := []reference.Named{named}
	if reference.IsNameOnly(named) {
		if tags, err = m.store.TagsOf(named); err != nil {
			return err
		}
	}
	if len(tags) == 0 {
		return fault.NotFound("An image does not exist locally with the tag: %s", reference.FamiliarName(named))
	}
	var images []*image.Image
	for _, tag := range tags {
		im, err := m.store.Resolve(ctx, tag.String())
		if err != nil || !slices.Contains(im.RepoTags, reference.FamiliarString(tag)) {
			return fault.NotFound("An image does not exist locally with the tag: %s", reference.FamiliarName(named))
		}
		if o.Platform != nil && !MatchesPlatform(im.Platform, *o.Platform) {
			return fault.NotFound("image %s is for %s, which does not match the specified platform (%s)",
				reference.FamiliarString(tag), PlatformText(im.Platform), PlatformText(*o.Platform))
		}
		images = append(images, im)
	}
	for i, im := range images {
		if err := m.pushOne(ctx, im, tags[i], o.Auth, i == 0, progress); err != nil {
			return err
		}
	}
	return nil
}

// push is the work of pushing one image.
type push struct {
	m        *Manager
	dest     types.ImageDestination
	named    reference.Named
	progress Progress
}

func (m *Manager) pushOne(ctx context.Context, im *image.Image, named reference.Named, auth registry.AuthConfig, first bool, progress Progress) error {
	if first {
		progress(jsonstream.Message{Status: "The push refers to repository [" + named.Name() + "]"})
	}
	layers, err := m.store.Layers(im)
	if err != nil {
		return err
	}
	ref, err := remote(named)
	if err != nil {
		return err
	}
	dest, err := ref.NewImageDestination(ctx, m.system(reference.Domain(named), auth))
	if err != nil {
		return registryError(named, err)
	}
	defer dest.Close()
	p := &push{m: m, dest: dest, named: named, progress: progress}
	blobs, err := p.layers(ctx, layers)
	if err != nil {
		return err
	}
	body, err := p.manifest(ctx, im, blobs)
	if err != nil {
		return err
	}
	if err := dest.PutManifest(ctx, body, nil); err != nil {
		return registryError(named, err)
	}
	d := digest.FromBytes(body)
	canonical, err := reference.WithDigest(reference.TrimNamed(named), d)
	if err != nil {
		return err
	}
	if err := m.store.AddReference(im.ID, canonical); err != nil {
		return err
	}
	m.store.Publish(events.ActionPush, reference.FamiliarString(named), reference.FamiliarName(named))
	tag := tagOf(named)
	progress(jsonstream.Message{Status: fmt.Sprintf("%s: digest: %s size: %d", tag, d, len(body))})
	progress(jsonstream.Message{Aux: aux(pushResult{Tag: tag, Digest: d.String(), Size: len(body)})})
	return nil
}

// layers brings every layer to the registry and returns what it has there.
func (p *push) layers(ctx context.Context, layers []image.LayerInfo) ([]ocispec.Descriptor, error) {
	blobs := make([]ocispec.Descriptor, len(layers))
	first := map[digest.Digest]int{}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(maxParallel)
	for i, l := range layers {
		p.progress(jsonstream.Message{ID: shortID(l.DiffID), Status: "Preparing"})
		if _, again := first[l.DiffID]; !again {
			first[l.DiffID] = i
		}
	}
	for i, l := range layers {
		if first[l.DiffID] == i {
			g.Go(func() (err error) {
				blobs[i], err = p.layer(ctx, l)
				return err
			})
		}
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	for i, l := range layers {
		blobs[i] = blobs[first[l.DiffID]]
	}
	return blobs, nil
}

// layer brings one layer to the registry, unless it is there.
func (p *push) layer(ctx context.Context, l image.LayerInfo) (ocispec.Descriptor, error) {
	id := shortID(l.DiffID)
	if l.Blob != nil {
		have, info, err := p.dest.TryReusingBlob(ctx, types.BlobInfo{Digest: l.Blob.Digest, Size: -1}, noCache, false)
		if err != nil {
			return ocispec.Descriptor{}, registryError(p.named, err)
		}
		if have {
			p.progress(jsonstream.Message{ID: id, Status: "Layer already exists"})
			return ocispec.Descriptor{MediaType: l.Blob.MediaType, Digest: info.Digest, Size: info.Size}, nil
		}
	}
	rc, err := p.m.store.OpenLayer(l)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	defer rc.Close()
	plain := newHashed(newMeter(untilDone(ctx, rc), l.Size, id, "Pushing", p.progress))
	compressed := gzipped(plain, l.DiffID)
	defer compressed.Close()
	info, err := p.dest.PutBlob(ctx, compressed, types.BlobInfo{Size: -1}, noCache, false)
	if err != nil {
		return ocispec.Descriptor{}, registryError(p.named, err)
	}
	blob := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayerGzip, Digest: info.Digest, Size: info.Size}
	if err := p.m.store.Remember(l, blob); err != nil {
		return blob, err
	}
	p.progress(jsonstream.Message{ID: id, Status: "Pushed"})
	return blob, nil
}

// gzipped compresses what r holds, whose digest must be want at the end.
func gzipped(r *hashed, want digest.Digest) io.ReadCloser {
	pr, pw := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		zw := pgzip.NewWriter(pw)
		_, err := io.CopyBuffer(zw, r, make([]byte, 256<<10))
		if err == nil {
			var got digest.Digest
			if got, err = r.rest(); err == nil && got != want {
				err = fault.Internal("layer %s has changed in the store: it is now %s", want, got)
			}
		}
		if err == nil {
			err = zw.Close()
		}
		pw.CloseWithError(err)
	}()
	return &waiting{pr, done}
}

// waiting is a pipe whose writer has ended when Close returns.
type waiting struct {
	*io.PipeReader
	done chan struct{}
}

func (w *waiting) Close() error {
	err := w.PipeReader.Close()
	<-w.done
	return err
}

// manifest returns the manifest to push: the image's own, when the registry
// has just the blobs that it names, so that its digest stays; else a new one
// in the form that every registry takes.
func (p *push) manifest(ctx context.Context, im *image.Image, blobs []ocispec.Descriptor) ([]byte, error) {
	config := im.RawConfig()
	info := types.BlobInfo{Digest: digest.Digest(im.ID), Size: int64(len(config))}
	have, _, err := p.dest.TryReusingBlob(ctx, info, noCache, false)
	if err == nil && !have {
		_, err = p.dest.PutBlob(ctx, bytes.NewReader(config), info, noCache, true)
	}
	if err != nil {
		return nil, registryError(p.named, err)
	}
	own, err := p.m.store.Manifest(im)
	if err == nil && sameBlobs(own, blobs) {
		return own, nil
	}
	mf := ocispec.Manifest{MediaType: manifest.DockerV2Schema2MediaType, Config: configDescriptor(im), Layers: blobs}
	mf.SchemaVersion = 2
	mf.Config.MediaType = manifest.DockerV2Schema2ConfigMediaType
	oci := slices.ContainsFunc(blobs, func(d ocispec.Descriptor) bool { return d.MediaType == ocispec.MediaTypeImageLayerZstd })
	for i := range mf.Layers {
		switch mf.Layers[i].MediaType {
		case ocispec.MediaTypeImageLayerGzip, manifest.DockerV2Schema2LayerMediaType:
			mf.Layers[i].MediaType = manifest.DockerV2Schema2LayerMediaType
			if oci {
				mf.Layers[i].MediaType = ocispec.MediaTypeImageLayerGzip
			}
		}
	}
	if oci { // Docker's form knows no zstd
		mf.MediaType, mf.Config.MediaType = ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageConfig
	}
	return json.MarshalIndent(mf, "", "   ")
}

// sameBlobs reports whether a manifest names exactly these layers.
func sameBlobs(raw []byte, blobs []ocispec.Descriptor) bool {
	mf, err := parseManifest(raw, manifest.GuessMIMEType(raw))
	return err == nil && slices.EqualFunc(mf.Layers, blobs, func(a, b ocispec.Descriptor) bool {
		return a.Digest == b.Digest && a.Size == b.Size
	})
}
