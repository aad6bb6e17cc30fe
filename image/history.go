package image

import (
	"context"
	"slices"
	"time"

	imagetypes "github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/storage"
)

// missingID stands where the Id of a layer's image is not known here.
const missingID = "<missing>"

// History lists the steps that made the image, last first.
func (s catalog) History(ctx context.Context, ref string) ([]imagetypes.HistoryResponseItem, error) {
	im, err := s.Resolve(ctx, ref)
	if err != nil {
		return nil, err
	}
	ix, err := s.layersOf(im.topLayer)
	if err != nil {
		return nil, err
	}
	chain := ix.chain(im.topLayer) // top first
	items := make([]imagetypes.HistoryResponseItem, 0, len(im.History))
	used := 0
	for _, h := range im.History {
		item := imagetypes.HistoryResponseItem{ID: missingID, Comment: h.Comment, CreatedBy: h.CreatedBy}
		if h.Created != nil {
			item.Created = h.Created.Unix()
		}
		if !h.EmptyLayer && used < len(chain) {
			item.Size = max(chain[len(chain)-1-used].UncompressedSize, 0)
			used++
		}
		items = append(items, item)
	}
	slices.Reverse(items)
	if len(items) == 0 { // an image without history still has layers
		items = append(items, imagetypes.HistoryResponseItem{ID: missingID, Size: im.Size, Created: seconds(im.Created)})
	}
	s.nameSteps(ctx, im, items)
	return items, nil
}

// nameSteps fills in the Ids and tags of the image and of the images here
// that it was made from: each made the last step of its own history.
func (s catalog) nameSteps(ctx context.Context, im *Image, items []imagetypes.HistoryResponseItem) {
	for at := im; at != nil; {
		step := len(im.History) - len(at.History)
		if step < 0 || step >= len(items) || items[step].ID != missingID {
			return
		}
		items[step].ID, items[step].Tags = at.ID, at.RepoTags
		if at.Parent == "" {
			return
		}
		parent, err := s.Resolve(ctx, at.Parent)
		if err != nil {
			return // the parent is gone: the rest is missing
		}
		at = parent
	}
}

// seconds is a time as the API gives it, since 1970; 0 for none.
func seconds(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}

// Inspect returns all that there is to know about an image.
func (s catalog) Inspect(ctx context.Context, ref string) (imagetypes.InspectResponse, error) {
	im, err := s.Resolve(ctx, ref)
	if err != nil {
		return imagetypes.InspectResponse{}, err
	}
	r := imagetypes.InspectResponse{
		ID: im.ID, RepoTags: notNull(im.RepoTags), RepoDigests: notNull(im.RepoDigests),
		Comment: im.Comment, Author: im.Author, Config: &im.Config,
		Architecture: im.Platform.Architecture, Variant: im.Platform.Variant,
		Os: im.Platform.OS, OsVersion: im.Platform.OSVersion, Size: im.Size,
		RootFS:   imagetypes.RootFS{Type: "layers"},
		Metadata: imagetypes.Metadata{LastTagTime: im.LastTagTime},
	}
	if !im.Created.IsZero() {
		r.Created = im.Created.Format(time.RFC3339Nano)
	}
	if r.Comment == "" && len(im.History) > 0 {
		r.Comment = im.History[len(im.History)-1].Comment
	}
	for _, id := range im.DiffIDs {
		r.RootFS.Layers = append(r.RootFS.Layers, id.String())
	}
	r.GraphDriver, err = s.driverData(im.topLayer)
	return r, err
}

func (s catalog) driverData(layerID string) (*storage.DriverData, error) {
	data := &storage.DriverData{Name: s.driver.name, Data: map[string]string{}}
	if layerID == "" {
		return data, nil
	}
	driver, err := s.store.GraphDriver()
	if err != nil {
		return nil, err
	}
	if data.Data, err = driver.Metadata(layerID); err != nil {
		return nil, err
	}
	return data, nil
}
