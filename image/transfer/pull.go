package transfer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/jsonstream"
	"github.com/moby/moby/api/types/registry"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.podman.io/image/v5/docker"
	"go.podman.io/image/v5/types"
	"golang.org/x/sync/errgroup"

	"github.com/kelp-engine/kelp/engine/fault"
	"github.com/kelp-engine/kelp/image"
)

// maxParallel is how many layers of an image move at the same time.
const maxParallel = 4

// PullOptions say what is pulled.
type PullOptions struct {
	// Reference is the image; a bare repository means all its tags.
	Reference string
	// Platform is the wanted one of an image of many; nil is this machine's.
	Platform *ocispec.Platform
	// Auth is what the client sent.
	Auth registry.AuthConfig
}

// Pull brings an image from a registry into the store.
func (m *Manager) Pull(ctx context.Context, o PullOptions, progress Progress) error {
	named, err := parseRemote(o.Reference)
	if err != nil {
		return err
	}
	if !reference.IsNameOnly(named) {
		return m.pullOne(ctx, named, o, progress)
	}
	ref, err := remote(named)
	if err != nil {
		return err
	}
	tags, err := docker.GetRepositoryTags(ctx, m.system(reference.Domain(named), o.Auth), ref)
	if err != nil {
		return registryError(named, err)
	}
	if len(tags) == 0 {
		return fault.NotFound("repository %s has no tags", reference.FamiliarName(named))
	}
	slices.Sort(tags)
	for _, tag := range tags {
		tagged, err := reference.WithTag(named, tag)
		if err != nil {
			return fault.InvalidArgument("the registry names the invalid tag %q: %w", tag, err)
		}
		if err := m.pullOne(ctx, tagged, o, progress); err != nil {
			return err
		}
	}
	return nil
}

// pull is the work of pulling one image.
type pull struct {
	*remoteImage
	mf       *ocispec.Manifest
	diffIDs  []digest.Digest
	progress Progress
	own      *fetching // what others see of it

	mu     sync.Mutex
	staged stagedSet
	came   map[digest.Digest]bool // layers brought by this pull, or while it waited
}

func (m *Manager) pullOne(ctx context.Context, named reference.Named, o PullOptions, progress Progress) (err error) {
	src, err := m.openRemote(ctx, named, o.Auth)
	if err != nil {
		return err
	}
	defer src.Close()
	raw, mf, err := src.choose(ctx, o.Platform)
	if err != nil {
		return err
	}
	config, have, err := src.config(ctx, mf)
	if err != nil {
		return err
	}
	if o.Platform != nil && !isIndex(src.mediaType, src.manifest) && !MatchesPlatform(have, *o.Platform) {
		return fault.NotFound("image with reference %s was found but its platform (%s) does not match the specified platform (%s)",
			reference.FamiliarString(named), PlatformText(have), PlatformText(*o.Platform))
	}
	progress(jsonstream.Message{ID: tagOf(named), Status: "Pulling from " + reference.Path(named)})
	info, err := image.CheckConfig(config)
	if err != nil {
		return err
	}
	names, err := pulledNames(named, src.digest)
	if err != nil {
		return err
	}
	current := m.isCurrent(ctx, names, mf.Config.Digest)
	p := &pull{remoteImage: src, mf: mf, diffIDs: info.DiffIDs, progress: progress, staged: stagedSet{}, came: map[digest.Digest]bool{}}
	defer func() { err = errors.Join(err, p.staged.discard()) }()
	if err := p.run(ctx, image.Draft{Config: config, Manifest: raw, Names: names}); err != nil {
		return err
	}
	m.store.Publish(events.ActionPull, reference.FamiliarString(named), reference.FamiliarName(named))
	progress(jsonstream.Message{Status: "Digest: " + src.digest.String()})
	status := "Downloaded newer image for "
	if current {
		status = "Image is up to date for "
	}
	progress(jsonstream.Message{Status: "Status: " + status + reference.FamiliarString(named)})
	return nil
}

// tagOf is the tag or digest of a reference.
func tagOf(named reference.Named) string {
	switch n := named.(type) {
	case reference.Digested:
		return n.Digest().String()
	case reference.Tagged:
		return n.Tag()
	}
	return ""
}

// pulledNames are the references that a pulled image gets: the one that it
// was pulled by, and its digest in the repository.
func pulledNames(named reference.Named, d digest.Digest) ([]reference.Named, error) {
	canonical, err := reference.WithDigest(reference.TrimNamed(named), d)
	if err != nil {
		return nil, fault.InvalidArgument("%w", err)
	}
	if _, digested := named.(reference.Digested); digested {
		return []reference.Named{canonical}, nil
	}
	return []reference.Named{named, canonical}, nil
}

// isCurrent reports whether the image has all the names already.
func (m *Manager) isCurrent(ctx context.Context, names []reference.Named, id digest.Digest) bool {
	for _, n := range names {
		im, err := m.store.Resolve(ctx, n.String())
		if err != nil || im.ID != id.String() {
			return false
		}
	}
	return true
}

// run fetches the layers that the store does not have and makes the image. A
// layer that vanishes in between, because another client removes images, is
// fetched too.
func (p *pull) run(ctx context.Context, draft image.Draft) error {
	for _, l := range p.mf.Layers {
		p.progress(jsonstream.Message{ID: shortID(l.Digest), Status: "Pulling fs layer"})
	}
	release, err := p.m.pulls.claim(ctx, p)
	if err != nil {
		return err
	}
	defer release()
	for attempt := 0; ; attempt++ {
		if err := p.fetchAll(ctx, attempt == 0); err != nil {
			return err
		}
		_, err := p.m.store.Assemble(ctx, draft, p.staged)
		if _, missing := errors.AsType[*image.MissingLayers](err); missing && attempt < 3 {
			continue
		}
		if err != nil {
			return fmt.Errorf("cannot store the image: %w", err)
		}
		for _, l := range p.mf.Layers {
			if p.came[l.Digest] {
				p.progress(jsonstream.Message{ID: shortID(l.Digest), Status: "Pull complete"})
			}
		}
		return nil
	}
}

// fetchAll stages the layers that are missing, several at the same time.
func (p *pull) fetchAll(ctx context.Context, tell bool) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(maxParallel)
	seen := map[digest.Digest]bool{}
	for id := range p.staged { // of an earlier attempt
		seen[id] = true
	}
	for i, l := range p.mf.Layers {
		id := p.diffIDs[i]
		if seen[id] {
			continue
		}
		seen[id] = true
		if p.m.store.Has(p.diffIDs[:i+1]) || p.m.store.HasDiff(id) {
			if tell && !p.hasCome(l.Digest) {
				p.progress(jsonstream.Message{ID: shortID(l.Digest), Status: "Already exists"})
			}
			continue
		}
		g.Go(func() error { return p.fetch(ctx, l, id) })
	}
	return g.Wait()
}

func (p *pull) hasCome(layer digest.Digest) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.came[layer]
}

// fetch stages one layer while it comes in: nothing is kept in a file.
func (p *pull) fetch(ctx context.Context, l ocispec.Descriptor, diffID digest.Digest) error {
	// A manifest may name URLs for a layer. They are not followed, as by dockerd
	// on Linux: a registry could have this machine ask any other.
	info := types.BlobInfo{Digest: l.Digest, Size: l.Size, MediaType: l.MediaType}
	rc, size, err := p.GetBlob(ctx, info, noCache)
	if err != nil {
		return registryError(p.named, err)
	}
	defer rc.Close()
	stop := context.AfterFunc(ctx, func() { rc.Close() })
	defer stop()
	if size < 0 {
		size = l.Size
	}
	id := shortID(l.Digest)
	h := newHashed(newMeter(rc, size, id, "Downloading", p.tell))
	st, err := p.m.store.Stage(ctx, h)
	if err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return fmt.Errorf("failed to register layer %s: %w", l.Digest, err)
	}
	p.tell(jsonstream.Message{ID: id, Status: "Verifying Checksum"})
	got, err := h.rest()
	switch {
	case err != nil:
	case got != l.Digest:
		err = fault.Unavailable("filesystem layer verification failed for digest %s: the registry sent %s", l.Digest, got)
	case st.DiffID != diffID:
		err = fault.InvalidArgument("invalid image: layer %s has the content %s, but its configuration says %s", l.Digest, st.DiffID, diffID)
	}
	if err != nil {
		return errors.Join(err, st.Discard())
	}
	st.Came(ocispec.Descriptor{MediaType: l.MediaType, Digest: l.Digest, Size: h.n})
	p.tell(jsonstream.Message{ID: id, Status: "Download complete"})
	p.mu.Lock()
	defer p.mu.Unlock()
	p.came[l.Digest] = true
	return p.staged.add(st)
}
