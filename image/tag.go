package image

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/events"

	"github.com/kelp-engine/kelp/engine/fault"
)

var (
	errDigestTag     = fault.InvalidArgument("refusing to create a tag with a digest reference")
	errAlgorithmName = fault.InvalidArgument("refusing to create an ambiguous tag using digest algorithm as name")
)

// Tag gives the image ref the further reference target.
func (s catalog) Tag(_ context.Context, ref, target string) error {
	im, err := s.lookup(ref)
	if err != nil {
		return err
	}
	named, err := ParseReference(target)
	if err != nil {
		return err
	}
	if _, ok := named.(reference.Digested); ok {
		return errDigestTag
	}
	named = reference.TagNameOnly(named)
	if err := s.addName(im.ID, named); err != nil {
		return err
	}
	s.Publish(events.ActionTag, "sha256:"+im.ID, reference.FamiliarString(named))
	return nil
}

// AddReference gives the image with this Id a tag or digest reference,
// taking it from the image that has it. It tells nobody.
func (s catalog) AddReference(id string, named reference.Named) error {
	im, err := s.byID(id, id)
	if err != nil {
		return err
	}
	return s.addName(im.ID, named)
}

func (s catalog) addName(storeID string, named reference.Named) error {
	name := named.String()
	if isAlgorithmName(named) {
		return errAlgorithmName
	}
	s.writes.Lock()
	defer s.writes.Unlock()
	if err := s.store.AddNames(storeID, []string{name}); err != nil {
		return err
	}
	now := time.Now().UTC()
	return s.editMetadata(storeID, func(m *metadata) { m.LastTag = &now })
}

// isAlgorithmName reports a repository called sha256: "sha256:abc" would be
// both a tag of it and an Id.
func isAlgorithmName(named reference.Named) bool {
	return reference.FamiliarName(named) == "sha256"
}

// editMetadata changes kelp's own fields of an image's record.
//
// Preconditions: writes is held.
func (s *core) editMetadata(storeID string, edit func(*metadata)) error {
	im, err := s.store.Image(storeID)
	if err != nil {
		return err
	}
	if im.ReadOnly {
		return nil
	}
	text, err := setMetadata(im.Metadata, edit)
	if err != nil {
		return err
	}
	return s.store.SetMetadata(storeID, text)
}

// removeName takes one reference from an image.
func (s catalog) removeName(storeID, name string) error {
	s.writes.Lock()
	defer s.writes.Unlock()
	return s.store.RemoveNames(storeID, []string{name})
}

// TagsOf returns the tags of a repository.
func (s catalog) TagsOf(repository reference.Named) ([]reference.Named, error) {
	list, err := s.store.Images()
	if err != nil {
		return nil, err
	}
	var tags []reference.Named
	for _, im := range list {
		for _, n := range parseNames(im.Names) {
			if _, tagged := n.(reference.Tagged); tagged && n.Name() == repository.Name() {
				tags = append(tags, n)
			}
		}
	}
	slices.SortFunc(tags, func(a, b reference.Named) int { return strings.Compare(a.String(), b.String()) })
	return tags, nil
}
