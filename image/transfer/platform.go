package transfer

import (
	"encoding/json"
	"strings"

	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/kelp-engine/kelp/engine/fault"
)

const mediaTypeDockerList = "application/vnd.docker.distribution.manifest.list.v2+json"

// ParsePlatform reads os[/arch[/variant]] or the JSON form; "" is nil.
func ParsePlatform(text string) (*ocispec.Platform, error) {
	if text == "" {
		return nil, nil
	}
	if strings.HasPrefix(text, "{") {
		var p ocispec.Platform
		if err := json.Unmarshal([]byte(text), &p); err != nil {
			return nil, fault.InvalidArgument("invalid platform %q: %w", text, err)
		}
		return &p, nil
	}
	p, err := platforms.Parse(text)
	if err != nil {
		return nil, fault.InvalidArgument("invalid platform %q: %w", text, err)
	}
	return &p, nil
}

// isIndex tells an index or manifest list from a manifest.
func isIndex(mediaType string, doc []byte) bool {
	switch mediaType {
	case ocispec.MediaTypeImageIndex, mediaTypeDockerList:
		return true
	case "":
		var probe struct {
			Manifests []json.RawMessage `json:"manifests"`
		}
		return json.Unmarshal(doc, &probe) == nil && probe.Manifests != nil
	}
	return false
}

// isAttestation tells the statements that BuildKit puts beside images.
func isAttestation(d ocispec.Descriptor) bool {
	return d.Annotations["vnd.docker.reference.type"] != "" ||
		d.Platform != nil && d.Platform.OS == "unknown" && d.Platform.Architecture == "unknown"
}

// chooseManifest picks from an index the best manifest for the first of the
// platforms, or for this machine when there are none.
func chooseManifest(doc []byte, want []ocispec.Platform) (ocispec.Descriptor, error) {
	var index ocispec.Index
	if err := json.Unmarshal(doc, &index); err != nil {
		return ocispec.Descriptor{}, fault.InvalidArgument("cannot read the image's index: %w", err)
	}
	p := platforms.DefaultSpec()
	if len(want) > 0 {
		p = platforms.Normalize(want[0])
	}
	match := platforms.OnlyStrict(p)
	if len(want) == 0 || p.Variant == "" {
		match = platforms.Only(p)
	}
	best := -1
	for i, d := range index.Manifests {
		if d.Platform == nil || isAttestation(d) || !match.Match(*d.Platform) {
			continue
		}
		if best < 0 || match.Less(*d.Platform, *index.Manifests[best].Platform) {
			best = i
		}
	}
	if best < 0 {
		return ocispec.Descriptor{}, fault.NotFound("no matching manifest for %s in the manifest list entries", platforms.FormatAll(p))
	}
	return index.Manifests[best], nil
}
