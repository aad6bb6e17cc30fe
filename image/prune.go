package image

import (
	"context"
	"log/slog"
	"maps"
	"strconv"
	"time"

	"github.com/moby/moby/api/types/events"
	imagetypes "github.com/moby/moby/api/types/image"

	"github.com/kelp-engine/kelp/engine/filter"
)

// PruneFilters are the filters of Prune.
var PruneFilters = []string{"dangling", "label", "label!", "until"}

// Prune deletes the images that no container uses: those without a reference,
// or all of them when the filter dangling is false. Copies of images that no
// container is made on go in any case: they are made again when needed.
func (s remover) Prune(ctx context.Context, f filter.Args) (imagetypes.PruneReport, error) {
	var report imagetypes.PruneReport
	dangling, err := f.Bool("dangling", true)
	if err != nil {
		return report, err
	}
	until, err := f.Until(time.Now())
	if err != nil {
		return report, err
	}
	report.ImagesDeleted = []imagetypes.DeleteResponse{}
	before, _, err := s.layerSizes()
	if err != nil {
		return report, err
	}
	all, _, err := s.images()
	if err != nil {
		return report, err
	}
	for _, im := range all {
		if err := ctx.Err(); err != nil {
			return report, err
		}
		if dangling && len(im.names) > 0 || len(s.usersOf(im.ID)) > 0 || !until.IsZero() && !im.Created.Before(until) ||
			!f.PruneLabels(im.Config.Labels) {
			continue
		}
		r := &removal{remover: s, im: im, names: parseNames(im.names), force: true, prune: true}
		err := r.delete(ctx, false)
		report.ImagesDeleted = append(report.ImagesDeleted, r.report...)
		if err != nil {
			slog.Debug("an image is not pruned", "image", im.ID, "error", err) // in use after all
		}
	}
	copies, err := s.pruneShifted()
	report.ImagesDeleted = append(report.ImagesDeleted, deletedLayers(copies)...)
	if err != nil {
		return report, err
	}
	after, _, err := s.layerSizes()
	if err != nil {
		return report, err
	}
	for id, size := range before {
		if _, still := after[id]; !still {
			report.SpaceReclaimed += uint64(size)
		}
	}
	if s.events != nil {
		s.events.Publish(events.ImageEventType, events.ActionPrune, "",
			map[string]string{"reclaimed": strconv.FormatUint(report.SpaceReclaimed, 10)})
	}
	return report, nil
}

func (s remover) pruneShifted() ([]string, error) {
	s.gc.Lock()
	defer s.gc.Unlock()
	return s.dropShifted("")
}

// layerSizes returns the size of every layer of an image and of the copies of
// images, and the size of all copies that are in use.
func (s catalog) layerSizes() (sizes map[string]int64, used int64, err error) {
	all, ix, err := s.images()
	if err != nil {
		return nil, 0, err
	}
	sizes, used = ix.shiftedSizes()
	for _, im := range all {
		for _, l := range ix.chain(im.topLayer) {
			sizes[l.ID] = max(l.UncompressedSize, 0)
		}
	}
	return sizes, used, nil
}

// Usage returns what `docker system df` tells of images. With verbose it
// lists each.
func (s catalog) Usage(ctx context.Context, verbose bool) (imagetypes.DiskUsage, error) {
	items, err := s.List(ctx, ListOptions{All: true, SharedSize: true, Containers: true})
	if err != nil {
		return imagetypes.DiskUsage{}, err
	}
	sizes, used, err := s.layerSizes()
	if err != nil {
		return imagetypes.DiskUsage{}, err
	}
	u := imagetypes.DiskUsage{TotalCount: int64(len(items))}
	for size := range maps.Values(sizes) {
		u.TotalSize += size
	}
	for _, im := range items {
		if im.Containers > 0 {
			u.ActiveCount++
			used += im.Size - im.SharedSize
		}
	}
	u.Reclaimable = u.TotalSize - used
	if verbose {
		u.Items = items
	}
	return u, nil
}
