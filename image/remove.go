package image

import (
	"context"
	"slices"
	"strings"

	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/events"
	imagetypes "github.com/moby/moby/api/types/image"

	"github.com/kelp-engine/kelp/engine/fault"
)

// remover is the part of a Store that removes images.
type remover struct{ catalog }

// RemoveOptions say how an image is removed.
type RemoveOptions struct {
	// Force removes references also when containers use the image, and the
	// image when none of them runs.
	Force bool
	// NoPrune keeps the untagged images that the image was made from.
	NoPrune bool
}

// removal is the work of one Remove.
type removal struct {
	remover
	im     *Image
	names  []reference.Named // that the image still has
	force  bool
	prune  bool
	report []imagetypes.DeleteResponse
}

// Remove takes the reference ref from its image, or all of them when ref is
// an Id, and deletes the image with its last reference.
func (s remover) Remove(ctx context.Context, ref string, o RemoveOptions) ([]imagetypes.DeleteResponse, error) {
	stored, err := s.lookup(ref)
	if err != nil {
		return nil, err
	}
	if stored.ReadOnly {
		return nil, fault.Conflict("cannot remove image %s: it belongs to a shared store that is read only", short(stored.ID))
	}
	im, err := s.Resolve(ctx, stored.ID)
	if err != nil {
		return nil, err
	}
	r := &removal{remover: s, im: im, names: parseNames(im.names), force: o.Force, prune: !o.NoPrune}
	if r.isName(ref) {
		err = r.byReference(ctx, ref)
	} else {
		err = r.byID(ctx)
	}
	return r.report, err
}

// isName reports whether ref is a name of the image, and not its Id. An image
// may be called like the beginning of its own Id.
func (r *removal) isName(ref string) bool {
	parsed, err := reference.ParseAnyReference(ref)
	if err != nil {
		return false
	}
	named, ok := parsed.(reference.Named)
	if !ok {
		return false
	}
	im, err := r.byName(named)
	return err == nil && im.ID == r.im.storeID
}

func parseNames(names []string) []reference.Named {
	var list []reference.Named
	for _, n := range names {
		if named, err := reference.ParseNormalizedNamed(n); err == nil {
			list = append(list, named)
		}
	}
	return list
}

func isDigest(n reference.Named) bool {
	_, ok := n.(reference.Digested)
	return ok
}

// byReference untags, and deletes the image when that was its last name.
func (r *removal) byReference(ctx context.Context, ref string) error {
	name, err := ParseReference(ref)
	if err != nil {
		return err
	}
	if isDigest(name) {
		if name, err = canonicalOf(name); err != nil {
			return err
		}
	}
	name = reference.TagNameOnly(name)
	if !r.force && singleReference(r.names) {
		for _, u := range r.usersOf(r.im.ID) {
			return fault.Conflict("conflict: unable to remove repository reference %q (must force) - container %s is using its referenced image %s",
				ref, short(u.ID), short(r.im.ID))
		}
	}
	if err := r.untag(name); err != nil {
		return err
	}
	if !isDigest(name) && !r.hasTagOf(name.Name()) {
		// The last tag of a repository takes its digests along.
		for _, n := range append([]reference.Named(nil), r.names...) {
			if n.Name() == name.Name() {
				if err := r.untag(n); err != nil {
					return err
				}
			}
		}
	}
	if len(r.names) > 0 {
		return nil
	}
	return r.delete(ctx, true)
}

func (r *removal) hasTagOf(repository string) bool {
	for _, n := range r.names {
		if !isDigest(n) && n.Name() == repository {
			return true
		}
	}
	return false
}

// byID removes all references, when they amount to one, and the image.
func (r *removal) byID(ctx context.Context) error {
	if singleReference(r.names) {
		if c := r.conflict(r.im, r.force, false); c != nil {
			return c
		}
		for _, n := range append([]reference.Named(nil), r.names...) {
			if err := r.untag(n); err != nil {
				return err
			}
		}
	}
	return r.delete(ctx, false)
}

// singleReference reports whether names are one name: a tag, with or without
// the digest of the same repository.
func singleReference(names []reference.Named) bool {
	if len(names) <= 1 {
		return true
	}
	var single reference.Named
	digests := map[string]bool{}
	for _, n := range names {
		switch {
		case isDigest(n):
			digests[n.Name()] = true
		case single != nil:
			return false
		default:
			single = n
		}
	}
	if single == nil {
		single = names[0]
	}
	return len(digests) == 1 && digests[single.Name()]
}

func (r *removal) untag(n reference.Named) error {
	err := r.spare.Removing(func() error { return r.removeName(r.im.storeID, n.String()) })
	if err != nil {
		return err
	}
	for i, have := range r.names {
		if have.String() == n.String() {
			r.names = append(r.names[:i:i], r.names[i+1:]...)
			break
		}
	}
	r.report = append(r.report, imagetypes.DeleteResponse{Untagged: reference.FamiliarString(n)})
	r.publishOf(r.im, events.ActionUnTag, r.im.ID, r.im.ID)
	return nil
}

// delete deletes the image, whatever names it still has, and those that it
// was made from. When it was untagged before, it is no error that a container
// or another image keeps it.
func (r *removal) delete(ctx context.Context, untagged bool) error {
	if c := r.conflict(r.im, r.force, true); c != nil {
		if untagged {
			return nil
		}
		return c
	}
	for _, n := range append([]reference.Named(nil), r.names...) {
		if err := r.untag(n); err != nil {
			return err
		}
	}
	if err := r.deleteOne(r.im); err != nil || !r.prune {
		return err
	}
	for id := r.im.Parent; id != ""; {
		parent, err := r.Resolve(ctx, id)
		if err != nil || len(parent.names) > 0 || r.conflict(parent, false, true) != nil {
			return nil // gone already, or still wanted
		}
		if err := r.deleteOne(parent); err != nil {
			return err
		}
		id = parent.Parent
	}
	return nil
}

func conflictf(im *Image, hard bool, format string, args ...any) *fault.Error {
	how := "must be forced"
	if hard {
		how = "cannot be forced"
	}
	args = append([]any{short(im.ID), how}, args...)
	return fault.Conflict("conflict: unable to delete %s (%s) - "+format, args...)
}

// conflict returns what stands against deleting im. Force leaves only what
// would break: running containers and images made from it. names says whether
// references count.
func (r *removal) conflict(im *Image, force, names bool) *fault.Error {
	if r.hasChild(im) {
		return conflictf(im, true, "image has dependent child images")
	}
	users := r.usersOf(im.ID)
	for _, u := range users {
		if u.Running {
			return conflictf(im, true, "image is being used by running container %s", short(u.ID))
		}
	}
	if force {
		return nil
	}
	if names && im == r.im && len(r.names) > 0 {
		return conflictf(im, false, "image is referenced in multiple repositories")
	}
	if len(users) > 0 {
		return conflictf(im, false, "image is being used by stopped container %s", short(users[0].ID))
	}
	return nil
}

// deleteOne deletes the image's record and the layers that nothing else
// stands on.
func (r *removal) deleteOne(im *Image) error {
	r.gc.Lock()
	defer r.gc.Unlock()
	copies, err := r.dropShifted(im.topLayer)
	if err != nil {
		return err
	}
	var layers []string
	err = r.spare.Removing(func() (err error) {
		layers, err = r.store.DeleteImage(im.storeID, true)
		return err
	})
	if err != nil && !isUnknown(err) {
		return fault.Internal("cannot delete image %s: %w", short(im.ID), err)
	}
	r.mu.Lock()
	delete(r.configs, im.storeID)
	r.mu.Unlock()
	r.publishOf(im, events.ActionDelete, im.ID, im.ID)
	r.report = append(r.report, imagetypes.DeleteResponse{Deleted: im.ID})
	r.report = append(r.report, deletedLayers(slices.Concat(copies, layers))...)
	return nil
}

func deletedLayers(ids []string) (list []imagetypes.DeleteResponse) {
	for _, id := range ids {
		list = append(list, imagetypes.DeleteResponse{Deleted: "sha256:" + id})
	}
	return list
}

// hasChild reports whether another image was made here from im.
func (s remover) hasChild(im *Image) bool {
	list, err := s.store.Images()
	if err != nil {
		return true // unknown: keep what may be needed
	}
	for _, other := range list {
		if other.ID != im.storeID && parseMetadata(other.Metadata).Parent == im.ID {
			return true
		}
	}
	return false
}

// short is the part of an Id that people see.
func short(id string) string {
	id = strings.TrimPrefix(id, "sha256:")
	return id[:min(12, len(id))]
}
