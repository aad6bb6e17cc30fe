package mounts

import (
	"maps"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"

	"github.com/kelp-engine/kelp/engine/fault"
)

// Parse lists the mount points that a container asks for, by target. Binds,
// Mounts and Tmpfs are the client's own words and take the place of what
// VolumesFrom brings; both take the place of Config.Volumes. from finds the
// points of the containers that VolumesFrom names.
func Parse(c *container.Config, hc *container.HostConfig, from Source) ([]Point, error) {
	points := map[string]Point{}
	for _, v := range hc.VolumesFrom {
		inherited, err := parseVolumesFrom(v, from)
		if err != nil {
			return nil, err
		}
		for _, p := range inherited {
			points[p.Target] = p
		}
	}
	own, err := ownPoints(hc)
	if err != nil {
		return nil, err
	}
	maps.Copy(points, own)
	for target := range c.Volumes {
		p, err := imageVolume(target, hc.VolumeDriver)
		if err != nil {
			return nil, err
		}
		if _, taken := points[p.Target]; !taken {
			points[p.Target] = p
		}
	}
	list := make([]Point, 0, len(points))
	for _, target := range slices.Sorted(maps.Keys(points)) {
		list = append(list, points[target])
	}
	return list, nil
}

// sharedLabel is the mode that Docker shows for a volume without another.
const sharedLabel = "z"

// ownPoints are what the client names for this container, each target once.
func ownPoints(hc *container.HostConfig) (map[string]Point, error) {
	points := map[string]Point{}
	add := func(p Point, err error) error {
		if err != nil {
			return err
		}
		if _, taken := points[p.Target]; taken {
			return fault.InvalidArgument("Duplicate mount point: %s", p.Target)
		}
		if p.Type == mount.TypeVolume && p.Mode == "" {
			p.Mode = sharedLabel
		}
		points[p.Target] = p
		return nil
	}
	for _, b := range hc.Binds {
		if err := add(parseBind(b, hc.VolumeDriver)); err != nil {
			return nil, err
		}
	}
	for _, m := range hc.Mounts {
		if err := add(parseMount(m, hc.VolumeDriver)); err != nil {
			return nil, err
		}
	}
	for _, target := range slices.Sorted(maps.Keys(hc.Tmpfs)) {
		if err := add(parseTmpfs(target, hc.Tmpfs[target])); err != nil {
			return nil, err
		}
	}
	return points, nil
}

// imageVolume is an entry of Config.Volumes: an anonymous volume.
func imageVolume(target, driver string) (Point, error) {
	t, err := cleanTarget(target)
	if err != nil {
		return Point{}, fault.InvalidArgument("invalid volume specification: '%s': %w", target, err)
	}
	return Point{Type: mount.TypeVolume, Target: t, Driver: driver, Anonymous: true}, nil
}

// parseVolumesFrom reads an entry of HostConfig.VolumesFrom, CONTAINER[:MODE],
// and returns that container's volumes and binds.
func parseVolumesFrom(spec string, from Source) ([]Point, error) {
	ref, mode, _ := strings.Cut(spec, ":")
	if ref == "" {
		return nil, fault.InvalidArgument("volumes-from specification cannot be an empty string")
	}
	if !validMode(mode) || hasMode(mode, "nocopy") || propagationOf(mode) != "" {
		return nil, fault.InvalidArgument("invalid mode for volumes-from: %s", mode)
	}
	points, err := from(ref)
	if err != nil {
		return nil, err
	}
	var out []Point
	for _, p := range points {
		if p.Type == mount.TypeTmpfs {
			continue // it is that container's alone
		}
		if hasMode(mode, "ro") {
			p.ReadOnly = true
		}
		p.Create, p.NoCopy, p.Mode = false, true, ""
		out = append(out, p)
	}
	return out, nil
}
