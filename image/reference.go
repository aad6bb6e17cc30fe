package image

import (
	"context"
	"errors"
	"regexp"
	"slices"
	"strings"

	"github.com/distribution/reference"
	"go.podman.io/storage"

	"github.com/kelp-engine/kelp/engine/fault"
)

var hexID = regexp.MustCompile(`^(sha256:)?[0-9a-f]{1,64}$`)

// ParseReference reads a repository reference as people type it. It refuses
// image Ids.
func ParseReference(text string) (reference.Named, error) {
	named, err := reference.ParseNormalizedNamed(text)
	if err != nil {
		return nil, fault.InvalidArgument("%w", err)
	}
	return named, nil
}

// Resolve finds the image that ref means: name[:tag][@digest], a full Id or
// the beginning of one.
func (s *core) Resolve(_ context.Context, ref string) (*Image, error) {
	im, err := s.lookup(ref)
	if err != nil {
		return nil, err
	}
	layers, err := s.layersOf(im.TopLayer)
	if err != nil {
		return nil, err
	}
	return s.view(im, layers)
}

// lookup finds the stored image that ref means. A name wins over the
// beginning of an Id.
func (s *core) lookup(ref string) (*storage.Image, error) {
	parsed, err := reference.ParseAnyReference(ref)
	if err != nil {
		return nil, fault.InvalidArgument("%w", err)
	}
	named, ok := parsed.(reference.Named)
	if !ok { // a whole Id
		return s.byID(ref, ref)
	}
	im, err := s.byName(named)
	if !isUnknown(err) {
		return im, err
	}
	if hexID.MatchString(ref) {
		return s.byID(ref, familiar(named))
	}
	return nil, noSuchImage(familiar(named))
}

func (s *core) byName(named reference.Named) (*storage.Image, error) {
	if _, ok := named.(reference.Digested); !ok {
		named = reference.TagNameOnly(named)
	} else if _, tagged := named.(reference.Tagged); tagged {
		canonical, err := canonicalOf(named)
		if err != nil {
			return nil, err
		}
		named = canonical
	}
	return s.exactName(named.String())
}

// exactName finds the image that has the name. The store's own look-up also
// takes beginnings of ids, which a name must not be taken for.
func (s *core) exactName(name string) (*storage.Image, error) {
	im, err := s.store.Image(name)
	if err != nil {
		return nil, err
	}
	if !slices.Contains(im.Names, name) {
		return nil, storage.ErrImageUnknown
	}
	return im, nil
}

// canonicalOf returns name@digest without the tag.
func canonicalOf(named reference.Named) (reference.Named, error) {
	d := named.(reference.Digested).Digest()
	return reference.WithDigest(reference.TrimNamed(named), d)
}

func (s *core) byID(ref, shown string) (*storage.Image, error) {
	prefix := strings.TrimPrefix(ref, "sha256:")
	if len(prefix) == 64 {
		im, err := s.store.Image(prefix)
		if isUnknown(err) || err == nil && im.ID != prefix {
			return nil, noSuchImage(shown)
		}
		return im, err
	}
	list, err := s.store.Images()
	if err != nil {
		return nil, err
	}
	var found *storage.Image
	for i := range list {
		if !strings.HasPrefix(list[i].ID, prefix) {
			continue
		}
		if found != nil {
			return nil, fault.InvalidArgument("multiple IDs found with provided prefix: %s", ref)
		}
		found = &list[i]
	}
	if found == nil {
		return nil, noSuchImage(shown)
	}
	return found, nil
}

func isUnknown(err error) bool {
	return errors.Is(err, storage.ErrImageUnknown) || errors.Is(err, storage.ErrNotAnImage)
}

func noSuchImage(shown string) error { return fault.NotFound("No such image: %s", shown) }

// familiar is the short form of a reference, with its tag.
func familiar(named reference.Named) string {
	return reference.FamiliarString(reference.TagNameOnly(named))
}

// splitNames sorts the names of an image into tags and digests, in their
// short form. Names that are no references (of other programs) are left out.
func splitNames(names []string) (tags, digests []string) {
	tags, digests = []string{}, []string{}
	for _, n := range names {
		named, err := reference.ParseNormalizedNamed(n)
		if err != nil {
			continue
		}
		switch named.(type) {
		case reference.Digested:
			digests = append(digests, reference.FamiliarString(named))
		case reference.Tagged:
			tags = append(tags, reference.FamiliarString(named))
		}
	}
	slices.Sort(tags)
	slices.Sort(digests)
	return tags, digests
}
