package mounts

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/mount"

	"github.com/kelp-engine/kelp/engine/fault"
)

// parseMount reads an entry of HostConfig.Mounts.
func parseMount(m mount.Mount, driver string) (Point, error) {
	p, err := checkedMount(m, driver)
	if err != nil {
		return Point{}, fault.InvalidArgument("invalid mount config for type %q: %w", m.Type, err)
	}
	return p, nil
}

func checkedMount(m mount.Mount, driver string) (p Point, err error) {
	if p.Target, err = cleanTarget(m.Target); err != nil {
		return p, err
	}
	if err := onlyOwnOptions(m); err != nil {
		return p, err
	}
	if m.Consistency != "" && !slices.Contains(consistencies, string(m.Consistency)) {
		return p, fmt.Errorf("invalid consistency: %s", m.Consistency)
	}
	if strings.ContainsRune(m.Source, 0) {
		return p, errors.New("field Source has a zero byte")
	}
	p.Type, p.ReadOnly, p.FromMounts = m.Type, m.ReadOnly, true
	switch m.Type {
	case mount.TypeBind:
		return bindMount(p, m)
	case mount.TypeVolume:
		return volumeMount(p, m, driver)
	case mount.TypeTmpfs:
		return tmpfsMount(p, m)
	case mount.TypeImage:
		return imageMount(p, m)
	case mount.TypeCluster:
		return p, errors.New("cluster volumes need a swarm, which this engine is not part of")
	}
	return p, errors.New("mount type unknown")
}

// onlyOwnOptions refuses the options of another type of mount.
func onlyOwnOptions(m mount.Mount) error {
	for _, o := range []struct {
		name string
		of   mount.Type
		set  bool
	}{
		{"BindOptions", mount.TypeBind, m.BindOptions != nil},
		{"VolumeOptions", mount.TypeVolume, m.VolumeOptions != nil},
		{"ImageOptions", mount.TypeImage, m.ImageOptions != nil},
		{"TmpfsOptions", mount.TypeTmpfs, m.TmpfsOptions != nil},
		{"ClusterOptions", mount.TypeCluster, m.ClusterOptions != nil},
	} {
		if o.set && o.of != m.Type {
			return fmt.Errorf("field %s must not be specified", o.name)
		}
	}
	return nil
}

func bindMount(p Point, m mount.Mount) (Point, error) {
	if m.Source == "" {
		return p, errors.New("field Source must not be empty")
	}
	if !filepath.IsAbs(m.Source) {
		return p, fmt.Errorf("invalid mount path: '%s' mount path must be absolute", m.Source)
	}
	p.Source = filepath.Clean(m.Source)
	p.Propagation = mount.PropagationRPrivate
	o := m.BindOptions
	if o == nil {
		return p, nil
	}
	if o.Propagation != "" {
		if !slices.Contains(mount.Propagations, o.Propagation) {
			return p, fmt.Errorf("invalid propagation mode: %s", o.Propagation)
		}
		p.Propagation = o.Propagation
	}
	switch {
	case o.ReadOnlyForceRecursive && !m.ReadOnly, o.ReadOnlyNonRecursive && !m.ReadOnly:
		return p, errors.New("the options ReadOnlyNonRecursive and ReadOnlyForceRecursive need ReadOnly")
	case o.ReadOnlyForceRecursive && o.ReadOnlyNonRecursive:
		return p, errors.New("ReadOnlyNonRecursive and ReadOnlyForceRecursive exclude each other")
	case o.ReadOnlyForceRecursive && o.NonRecursive:
		return p, errors.New("NonRecursive and ReadOnlyForceRecursive exclude each other")
	case o.ReadOnlyForceRecursive && p.Propagation != mount.PropagationRPrivate:
		return p, errors.New("ReadOnlyForceRecursive needs the propagation rprivate")
	}
	p.NonRecursive = o.NonRecursive
	p.Create = o.CreateMountpoint
	p.ReadOnlyNonRecursive = o.ReadOnlyNonRecursive
	p.ReadOnlyForceRecursive = o.ReadOnlyForceRecursive
	return p, nil
}

func volumeMount(p Point, m mount.Mount, driver string) (Point, error) {
	p.Name, p.Driver = m.Source, driver
	p.Anonymous = p.Name == ""
	if p.Anonymous && m.ReadOnly {
		return p, errors.New("must not set ReadOnly mode when using anonymous volumes")
	}
	if !p.Anonymous {
		if err := CheckName(p.Name); err != nil {
			return p, err
		}
	}
	o := m.VolumeOptions
	if o == nil {
		return p, nil
	}
	p.NoCopy, p.Labels, p.Subpath = o.NoCopy, o.Labels, o.Subpath
	if d := o.DriverConfig; d != nil {
		p.DriverOpts = d.Options
		if d.Name != "" {
			p.Driver = d.Name
		}
	}
	if p.Subpath != "" && p.Anonymous {
		return p, errors.New("must not set Subpath when using anonymous volumes")
	}
	return p, checkSubpath(p.Subpath)
}

func imageMount(p Point, m mount.Mount) (Point, error) {
	if m.Source == "" {
		return p, errors.New("field Source must not be empty")
	}
	p.Name, p.ReadOnly = m.Source, true
	if m.ImageOptions != nil {
		p.Subpath = m.ImageOptions.Subpath
	}
	return p, checkSubpath(p.Subpath)
}

// checkSubpath refuses a path that leaves what it is a part of.
func checkSubpath(sub string) error {
	if sub != "" && !filepath.IsLocal(sub) {
		return fmt.Errorf("invalid subpath %q: it must be a relative path within the volume or image", sub)
	}
	return nil
}

func tmpfsMount(p Point, m mount.Mount) (Point, error) {
	if m.Source != "" {
		return p, errors.New("field Source must not be specified")
	}
	var o []string
	if t := m.TmpfsOptions; t != nil {
		switch {
		case t.SizeBytes < 0:
			return p, fmt.Errorf("invalid tmpfs size %d", t.SizeBytes)
		case t.SizeBytes > 0:
			o = append(o, fmt.Sprintf("size=%d", t.SizeBytes))
		}
		if t.Mode != 0 {
			o = append(o, fmt.Sprintf("mode=%o", t.Mode))
		}
		for _, kv := range t.Options {
			if len(kv) == 0 || len(kv) > 2 {
				return p, fmt.Errorf("invalid option array length: %d", len(kv))
			}
			o = append(o, strings.Join(kv, "="))
		}
	}
	if m.ReadOnly {
		o = append(o, "ro")
	}
	var err error
	p.TmpfsOptions, err = mergeTmpfs(o)
	return p, err
}
