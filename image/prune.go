package image

import (
	"context"
	"log/slog"
	"maps"
	"strconv"
	"time"

	"github.com/moby/moby/api/types/events"
	imagetypes "github.com/moby/moby/api/types/image"

	"github.com/kelp-engine/kelp/engine/fault"
	"github.com/kelp-engine/kelp/engine/filter"
)

// PruneFilters are the filters of Prune.
var PruneFilters = []string{"dangling", "label", "label!", "until"}

// Prune deletes the images that no container uses: those without a reference,
// or all of them when the filter dangling is false.
func (s remover) Prune(ctx context.Context, f filter.Args) (imagetypes.PruneReport, error) {
	var report imagetypes.PruneReport
	dangling, err := f.Bool("dangling", true)
	if err != nil {
		return report, err
	}
	until, err := untilFilter(f)
	if err != nil {
		return report, err
	}
	report.ImagesDeleted = []imagetypes.DeleteResponse{}
	before, err := s.layerSizes()
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
			!labelsMatch(f, im.Config.Labels) {
			continue
		}
		r := &removal{remover: s, im: im, names: parseNames(im.names), force: true, prune: true}
		err := r.delete(ctx, false)
		report.ImagesDeleted = append(report.ImagesDeleted, r.report...)
		if err != nil {
			slog.Debug("an image is not pruned", "image", im.ID, "error", err) // in use after all
		}
	}
	after, err := s.layerSizes()
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

// layerSizes returns the size of every layer of an image.
func (s catalog) layerSizes() (map[string]int64, error) {
	all, ix, err := s.images()
	if err != nil {
		return nil, err
	}
	sizes := map[string]int64{}
	for _, im := range all {
		for _, l := range ix.chain(im.topLayer) {
			sizes[l.ID] = max(l.UncompressedSize, 0)
		}
	}
	return sizes, nil
}

// Usage returns what `docker system df` tells of images. With verbose it
// lists each.
func (s catalog) Usage(ctx context.Context, verbose bool) (imagetypes.DiskUsage, error) {
	items, err := s.List(ctx, ListOptions{All: true, SharedSize: true, Containers: true})
	if err != nil {
		return imagetypes.DiskUsage{}, err
	}
	sizes, err := s.layerSizes()
	if err != nil {
		return imagetypes.DiskUsage{}, err
	}
	u := imagetypes.DiskUsage{TotalCount: int64(len(items))}
	for size := range maps.Values(sizes) {
		u.TotalSize += size
	}
	used := int64(0)
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

// untilFilter reads the filter until: a time, or how long ago.
func untilFilter(f filter.Args) (time.Time, error) {
	if !f.Has("until") {
		return time.Time{}, nil
	}
	if len(f["until"]) > 1 {
		return time.Time{}, fault.InvalidArgument("more than one until filter specified")
	}
	return parseTime(f["until"][0], time.Now())
}

// parseTime reads a Unix time, a date in one of Docker's forms, or a duration
// before now.
func parseTime(text string, now time.Time) (time.Time, error) {
	if d, err := time.ParseDuration(text); err == nil {
		return now.Add(-d), nil
	}
	if f, err := strconv.ParseFloat(text, 64); err == nil {
		sec := int64(f)
		return time.Unix(sec, int64((f-float64(sec))*1e9)), nil
	}
	for _, layout := range []string{
		time.RFC3339Nano, "2006-01-02T15:04:05.999999999", "2006-01-02T15:04:05", "2006-01-02T15:04",
		"2006-01-02T15", "2006-01-02Z07:00", "2006-01-02",
	} {
		if t, err := time.ParseInLocation(layout, text, time.Local); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fault.InvalidArgument("invalid time %q", text).
		WithHint("give a date such as 2026-01-02, a Unix time, or a duration such as 24h")
}
