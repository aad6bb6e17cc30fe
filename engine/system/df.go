package system

import (
	"context"
	"slices"

	"github.com/moby/moby/api/types/build"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/system"
	"github.com/moby/moby/api/types/volume"
)

// Objects are the types of objects whose disk usage can be asked for.
var Objects = []system.DiskUsageObject{system.ContainerObject, system.ImageObject, system.VolumeObject, system.BuildCacheObject}

// DiskUsage measures the space that objects of the given types take, and
// lists each.
func (m *Manager) DiskUsage(ctx context.Context, types []system.DiskUsageObject) (u system.DiskUsage, err error) {
	if slices.Contains(types, system.ContainerObject) {
		list, err := m.o.Containers.SummariesWithSize(ctx)
		if err != nil {
			return u, err
		}
		u.ContainerUsage = containerUsage(list)
	}
	if slices.Contains(types, system.ImageObject) {
		images, err := m.o.Images.Usage(ctx, true)
		if err != nil {
			return u, err
		}
		u.ImageUsage = &images
	}
	if slices.Contains(types, system.VolumeObject) {
		list, err := m.o.Volumes.Usage(ctx)
		if err != nil {
			return u, err
		}
		u.VolumeUsage = volumeUsage(list)
	}
	if slices.Contains(types, system.BuildCacheObject) {
		u.BuildCacheUsage = &build.DiskUsage{Items: []build.CacheRecord{}}
	}
	return u, nil
}

func containerUsage(list []container.Summary) *container.DiskUsage {
	u := &container.DiskUsage{TotalCount: int64(len(list)), Items: list}
	for _, c := range list {
		u.TotalSize += c.SizeRw
		switch c.State {
		case container.StateRunning, container.StatePaused, container.StateRestarting:
			u.ActiveCount++
		default:
			u.Reclaimable += c.SizeRw
		}
	}
	return u
}

func volumeUsage(list []volume.Volume) *volume.DiskUsage {
	u := &volume.DiskUsage{TotalCount: int64(len(list)), Items: list}
	for _, v := range list {
		if v.UsageData == nil || v.UsageData.Size < 0 {
			continue
		}
		u.TotalSize += v.UsageData.Size
		if v.UsageData.RefCount > 0 {
			u.ActiveCount++
		} else {
			u.Reclaimable += v.UsageData.Size
		}
	}
	return u
}
