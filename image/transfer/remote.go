package transfer

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/registry"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.podman.io/image/v5/manifest"
	"go.podman.io/image/v5/types"

	"github.com/kelp-engine/kelp/engine/fault"
	"github.com/kelp-engine/kelp/image"
)

// remoteImage is an image at a registry, with the manifest that its reference
// leads to first.
type remoteImage struct {
	types.ImageSource
	m         *Manager
	named     reference.Named
	manifest  []byte
	mediaType string
	digest    digest.Digest
}

// openRemote fetches the manifest of a reference. The caller closes it.
func (m *Manager) openRemote(ctx context.Context, named reference.Named, auth registry.AuthConfig) (*remoteImage, error) {
	if _, digested := named.(reference.Digested); digested {
		if _, tagged := named.(reference.Tagged); tagged { // the digest says it all
			var err error
			if named, err = reference.WithDigest(reference.TrimNamed(named), named.(reference.Digested).Digest()); err != nil {
				return nil, fault.InvalidArgument("%w", err)
			}
		}
	}
	ref, err := remote(named)
	if err != nil {
		return nil, err
	}
	src, err := ref.NewImageSource(ctx, m.system(reference.Domain(named), auth))
	if err != nil {
		return nil, registryError(named, err)
	}
	r := &remoteImage{ImageSource: src, m: m, named: named}
	if r.manifest, r.mediaType, err = r.fetchManifest(ctx, nil); err != nil {
		src.Close()
		return nil, err
	}
	r.digest = digest.FromBytes(r.manifest)
	if d, ok := named.(reference.Digested); ok && d.Digest() != r.digest {
		src.Close()
		return nil, fault.Unavailable("manifest verification failed for digest %s: the registry sent %s", d.Digest(), r.digest)
	}
	return r, nil
}

// fetchManifest gets the reference's manifest, or the one with digest d.
func (r *remoteImage) fetchManifest(ctx context.Context, d *digest.Digest) ([]byte, string, error) {
	b, mediaType, err := r.GetManifest(ctx, d)
	if err != nil {
		return nil, "", registryError(r.named, err)
	}
	if len(b) > image.MaxManifest {
		return nil, "", fault.InvalidArgument("invalid image: its manifest is larger than %d bytes", image.MaxManifest)
	}
	if d != nil && digest.FromBytes(b) != *d {
		return nil, "", fault.Unavailable("manifest verification failed for digest %s: the registry sent %s", *d, digest.FromBytes(b))
	}
	if mediaType == "" {
		mediaType = manifest.GuessMIMEType(b)
	}
	return b, manifest.NormalizedMIMEType(mediaType), nil
}

// choose returns the manifest for the platform: that of the reference, or the
// fitting one of its index.
func (r *remoteImage) choose(ctx context.Context, want *ocispec.Platform) ([]byte, *ocispec.Manifest, error) {
	b, mediaType := r.manifest, r.mediaType
	if isIndex(mediaType, b) {
		var wants []ocispec.Platform
		if want != nil {
			wants = append(wants, *want)
		}
		d, err := chooseManifest(b, wants)
		if err != nil {
			return nil, nil, err
		}
		if b, mediaType, err = r.fetchManifest(ctx, &d.Digest); err != nil {
			return nil, nil, err
		}
	}
	mf, err := parseManifest(b, mediaType)
	return b, mf, err
}

// parseManifest reads a manifest of one image, OCI's or Docker's, whose forms
// differ in media types only.
func parseManifest(b []byte, mediaType string) (*ocispec.Manifest, error) {
	switch mediaType {
	case manifest.DockerV2Schema2MediaType, ocispec.MediaTypeImageManifest:
	case manifest.DockerV2Schema1MediaType, manifest.DockerV2Schema1SignedMediaType:
		return nil, fault.NotImplemented("the image has a manifest of Docker's schema 1, which is no longer supported: build and push it anew")
	default:
		return nil, fault.InvalidArgument("unsupported manifest type %q", mediaType)
	}
	mf := &ocispec.Manifest{}
	if err := json.Unmarshal(b, mf); err != nil {
		return nil, fault.InvalidArgument("cannot read the image's manifest: %w", err)
	}
	switch mf.Config.MediaType {
	case manifest.DockerV2Schema2ConfigMediaType, ocispec.MediaTypeImageConfig:
	default:
		return nil, fault.InvalidArgument("unsupported media type %s: this is no container image", mf.Config.MediaType)
	}
	for _, d := range append([]ocispec.Descriptor{mf.Config}, mf.Layers...) {
		if d.Digest.Validate() != nil || d.Digest.Algorithm() != digest.SHA256 {
			return nil, fault.InvalidArgument("invalid image: its manifest has the digest %q", d.Digest)
		}
	}
	return mf, nil
}

// config fetches the configuration and checks it against the manifest.
func (r *remoteImage) config(ctx context.Context, mf *ocispec.Manifest) ([]byte, ocispec.Platform, error) {
	rc, _, err := r.GetBlob(ctx, types.BlobInfo{Digest: mf.Config.Digest, Size: mf.Config.Size, MediaType: mf.Config.MediaType}, noCache)
	if err != nil {
		return nil, ocispec.Platform{}, registryError(r.named, err)
	}
	defer rc.Close()
	b, err := readLimited(rc, image.MaxConfig, "its configuration")
	if err != nil {
		return nil, ocispec.Platform{}, registryError(r.named, err)
	}
	if got := digest.FromBytes(b); got != mf.Config.Digest {
		return nil, ocispec.Platform{}, fault.Unavailable("image verification failed: the configuration has the digest %s, not %s", got, mf.Config.Digest)
	}
	info, err := image.CheckConfig(b)
	if err != nil {
		return nil, ocispec.Platform{}, err
	}
	if len(info.DiffIDs) != len(mf.Layers) {
		return nil, ocispec.Platform{}, fault.InvalidArgument("invalid image: its manifest has %d layers, its configuration %d", len(mf.Layers), len(info.DiffIDs))
	}
	return b, info.Platform, nil
}

func indexPlatforms(b []byte) ([]ocispec.Platform, error) {
	var index ocispec.Index
	if err := json.Unmarshal(b, &index); err != nil {
		return nil, fmt.Errorf("cannot read the image's index: %w", err)
	}
	list := []ocispec.Platform{}
	for _, d := range index.Manifests {
		if d.Platform != nil {
			list = append(list, *d.Platform)
		}
	}
	return list, nil
}
