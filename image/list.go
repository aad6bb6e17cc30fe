package image

import (
	"context"
	"path"
	"slices"
	"time"

	"github.com/distribution/reference"
	imagetypes "github.com/moby/moby/api/types/image"
	"go.podman.io/storage"

	"github.com/kelp-engine/kelp/engine/fault"
	"github.com/kelp-engine/kelp/engine/filter"
)

// catalog is the part of a Store that lists, names and removes images.
type catalog struct{ *core }

// ListFilters are the filters of List.
var ListFilters = []string{"before", "dangling", "label", "reference", "since", "until"}

// ListOptions say what List returns.
type ListOptions struct {
	// All lists also the images that others were made from here and that
	// have no reference.
	All bool
	// Filters have the keys ListFilters.
	Filters filter.Args
	// SharedSize asks for the size that an image shares with others.
	SharedSize bool
	// Containers asks for the number of containers of each image.
	Containers bool
}

// List returns the images that match, newest first.
func (s catalog) List(ctx context.Context, o ListOptions) ([]imagetypes.Summary, error) {
	all, ix, err := s.images()
	if err != nil {
		return nil, err
	}
	match, err := s.matcher(ctx, all, o)
	if err != nil {
		return nil, err
	}
	var shared map[string]int
	if o.SharedSize {
		shared = sharing(all, ix)
	}
	list := []imagetypes.Summary{}
	for _, im := range all {
		keep, err := match(im)
		if err != nil {
			return nil, err
		}
		if !keep {
			continue
		}
		sum := summary(im)
		if o.SharedSize {
			sum.SharedSize = sharedSize(im, ix, shared)
		}
		if o.Containers {
			sum.Containers = int64(len(s.usersOf(im.ID)))
		}
		list = append(list, sum)
	}
	slices.SortStableFunc(list, func(a, b imagetypes.Summary) int { return int(b.Created - a.Created) })
	return list, nil
}

// images returns all images and all layers.
func (s catalog) images() ([]*Image, layerIndex, error) {
	list, err := s.store.MultiList(storage.MultiListOptions{Images: true, Layers: true})
	if err != nil {
		return nil, nil, err
	}
	ix := make(layerIndex, len(list.Layers))
	for i := range list.Layers {
		ix[list.Layers[i].ID] = &list.Layers[i]
	}
	all := make([]*Image, 0, len(list.Images))
	for i := range list.Images {
		im, err := s.view(&list.Images[i], ix)
		if err != nil {
			// One broken image must not hide the others; naming it says why.
			s.complain(list.Images[i].ID, err)
			continue
		}
		all = append(all, im)
	}
	return all, ix, nil
}

func summary(im *Image) imagetypes.Summary {
	sum := imagetypes.Summary{
		ID: im.ID, ParentID: im.Parent, RepoTags: notNull(im.RepoTags), RepoDigests: notNull(im.RepoDigests),
		Size: im.Size, SharedSize: -1, Containers: -1, Labels: im.Config.Labels,
	}
	if !im.Created.IsZero() {
		sum.Created = im.Created.Unix()
	}
	return sum
}

// notNull is a list that JSON has as [] when it is empty.
func notNull(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}

// sharing counts the images that stand on each layer.
func sharing(all []*Image, ix layerIndex) map[string]int {
	n := map[string]int{}
	for _, im := range all {
		for _, l := range ix.chain(im.topLayer) {
			n[l.ID]++
		}
	}
	return n
}

func sharedSize(im *Image, ix layerIndex, shared map[string]int) (size int64) {
	for _, l := range ix.chain(im.topLayer) {
		if shared[l.ID] > 1 {
			size += max(l.UncompressedSize, 0)
		}
	}
	return size
}

// matcher returns what decides whether an image is listed. It may narrow the
// image's references to those that match.
func (s catalog) matcher(ctx context.Context, all []*Image, o ListOptions) (func(*Image) (bool, error), error) {
	times, err := s.timeBounds(ctx, o.Filters)
	if err != nil {
		return nil, err
	}
	dangling, err := o.Filters.Bool("dangling", false)
	if err != nil {
		return nil, err
	}
	parents := map[string]bool{}
	for _, im := range all {
		parents[im.Parent] = true
	}
	f := o.Filters
	return func(im *Image) (bool, error) {
		if !times.contain(im.Created) || !f.Labels("label", im.Config.Labels) {
			return false, nil
		}
		if f.Has("reference") {
			if err := narrow(im, f["reference"]); err != nil {
				return false, err
			}
			return len(im.RepoTags)+len(im.RepoDigests) > 0, nil
		}
		untagged := len(im.RepoTags) == 0
		if f.Has("dangling") && dangling != (untagged && !parents[im.ID]) {
			return false, nil
		}
		if untagged && len(im.RepoDigests) == 0 && !o.All && parents[im.ID] {
			return false, nil // an intermediate image
		}
		return true, nil
	}, nil
}

// narrow leaves only the references that match one of the patterns.
func narrow(im *Image, patterns []string) error {
	keep := func(refs []string) ([]string, error) {
		var kept []string
		for _, ref := range refs {
			ok, err := matchesAny(ref, patterns)
			if err != nil {
				return nil, err
			}
			if ok {
				kept = append(kept, ref)
			}
		}
		return kept, nil
	}
	var err error
	if im.RepoTags, err = keep(im.RepoTags); err != nil {
		return err
	}
	im.RepoDigests, err = keep(im.RepoDigests)
	return err
}

func matchesAny(ref string, patterns []string) (bool, error) {
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return false, nil
	}
	for _, p := range patterns {
		ok, err := reference.FamiliarMatch(p, named)
		if err != nil {
			return false, fault.InvalidArgument("invalid reference pattern %q: %w", p, path.ErrBadPattern)
		}
		if ok {
			return true, nil
		}
	}
	return false, nil
}

// bounds is a span of time; a zero end is open.
type bounds struct{ after, before time.Time }

func (b bounds) contain(t time.Time) bool {
	return (b.after.IsZero() || t.After(b.after)) && (b.before.IsZero() || t.Before(b.before))
}

// timeBounds reads before, since (images) and until (a time).
func (s catalog) timeBounds(ctx context.Context, f filter.Args) (b bounds, err error) {
	for _, ref := range f["before"] {
		im, err := s.Resolve(ctx, ref)
		if err != nil {
			return b, err
		}
		b.before = earlier(b.before, im.Created)
	}
	for _, ref := range f["since"] {
		im, err := s.Resolve(ctx, ref)
		if err != nil {
			return b, err
		}
		if im.Created.After(b.after) {
			b.after = im.Created
		}
	}
	until, err := f.Until(time.Now())
	if err != nil {
		return b, err
	}
	if !until.IsZero() {
		b.before = earlier(b.before, until)
	}
	return b, nil
}

func earlier(a, b time.Time) time.Time {
	if a.IsZero() || b.Before(a) {
		return b
	}
	return a
}
