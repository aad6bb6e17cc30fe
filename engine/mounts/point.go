// Package mounts turns what a client asks to have mounted (Binds, Mounts,
// Volumes, VolumesFrom and Tmpfs) into one list of mount points, with Docker's
// rules and refusals.
//
// It reads the request only: it makes no volume, touches no file and mounts
// nothing. Package volume does that with the points.
package mounts

import (
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
)

// Point is one mount of a container, as its record keeps it.
type Point struct {
	Type mount.Type `json:"type"`
	// Target is where it is mounted in the container: absolute and clean.
	Target string `json:"target"`
	// Source is what is mounted. For a bind it is the path on the host; for a
	// volume or an image it is filled in when the volume or image is found,
	// and for a running container it is the path to bind from.
	Source string `json:"source,omitempty"`
	// Name of the volume, or reference of the image. A volume without one is
	// anonymous until volume.Manager.Prepare names it.
	Name string `json:"name,omitempty"`
	// ImageID is the image that Name meant when the container was made.
	ImageID string `json:"image_id,omitempty"`
	// Anonymous volumes go when the container is removed with its volumes.
	Anonymous bool `json:"anonymous,omitempty"`
	// Driver, DriverOpts and Labels make the volume when there is none.
	Driver     string            `json:"driver,omitempty"`
	DriverOpts map[string]string `json:"driver_opts,omitempty"`
	Labels     map[string]string `json:"labels,omitempty"`
	// Subpath is the part of the volume or image that is mounted.
	Subpath string `json:"subpath,omitempty"`
	// NoCopy leaves an empty volume empty; else it gets what the image has
	// at Target.
	NoCopy bool `json:"no_copy,omitempty"`
	// Create makes the source of a bind when it is missing.
	Create bool `json:"create,omitempty"`

	ReadOnly               bool              `json:"read_only,omitempty"`
	ReadOnlyNonRecursive   bool              `json:"read_only_non_recursive,omitempty"`
	ReadOnlyForceRecursive bool              `json:"read_only_force_recursive,omitempty"`
	NonRecursive           bool              `json:"non_recursive,omitempty"`
	Propagation            mount.Propagation `json:"propagation,omitempty"`

	// TmpfsOptions are mount options of a tmpfs, as mount(8) has them.
	TmpfsOptions []string `json:"tmpfs_options,omitempty"`
	// Mode is the option part of the bind string, for inspect.
	Mode string `json:"mode,omitempty"`
	// FromMounts says that the client gave it in HostConfig.Mounts.
	FromMounts bool `json:"from_mounts,omitempty"`
}

// API is the point as inspect and list show it.
func (p Point) API() container.MountPoint {
	m := container.MountPoint{
		Type:        p.Type,
		Source:      p.Source,
		Destination: p.Target,
		Mode:        p.Mode,
		RW:          !p.ReadOnly,
		Propagation: p.Propagation,
	}
	switch p.Type {
	case mount.TypeVolume:
		m.Name, m.Driver = p.Name, p.Driver
	case mount.TypeImage:
		m.Name, m.RW = p.Name, false
	}
	return m
}

// Source finds the points of the container that VolumesFrom names.
type Source func(ref string) ([]Point, error)
