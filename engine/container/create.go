package container

import (
	"context"
	"slices"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/api/types/network"

	"github.com/kelp-engine/kelp/engine/crashpoint"
	"github.com/kelp-engine/kelp/engine/fault"
	"github.com/kelp-engine/kelp/engine/mounts"
	"github.com/kelp-engine/kelp/engine/spec"
)

// Create makes a container, which does not run yet, and returns its id and
// warnings about what it cannot have. With an empty name it gets a random one.
func (m *Manager) Create(ctx context.Context, name string, req container.CreateRequest) (id string, warnings []string, err error) {
	if req.Config == nil {
		return "", nil, fault.InvalidArgument("config cannot be empty in order to create a container")
	}
	if name != "" {
		if name, err = checkName(name); err != nil {
			return "", nil, err
		}
	}
	m.bg.run(m.o.expectStart)
	img, err := m.o.Images.Resolve(ctx, req.Config.Image)
	if err != nil {
		return "", nil, err
	}
	if req.HostConfig == nil {
		req.HostConfig = &container.HostConfig{}
	}
	defer func() {
		if errdefs.IsNotFound(err) {
			// Clients that read "not found" pull the image and try again.
			err = fault.InvalidArgument("%s", err)
		}
	}()
	if err := spec.CheckRequest(req.Config, req.HostConfig); err != nil {
		return "", nil, err
	}
	r := &Record{ID: newID(), Created: time.Now().UTC(), Image: img.ID, State: Creating}
	if r.Config, err = mergeConfig(req.Config, img); err != nil {
		return "", nil, err
	}
	r.HostConfig = req.HostConfig
	if warnings, err = m.normalise(r, req.NetworkingConfig); err != nil {
		return "", nil, err
	}
	if r.Name, err = m.reserve(r.ID, name); err != nil {
		return "", nil, err
	}
	if err := m.make(ctx, r); err != nil {
		m.unreserve(r.ID, r.Name)
		return "", nil, err
	}
	return r.ID, warnings, nil
}

// normalise fills in what the client left open and checks the rest.
func (m *Manager) normalise(r *Record, nc *network.NetworkingConfig) ([]string, error) {
	h := r.HostConfig
	if r.Config.NetworkDisabled {
		h.NetworkMode = network.NetworkNone
	}
	if h.NetworkMode == "" || h.NetworkMode.IsDefault() {
		h.NetworkMode = network.NetworkBridge
	}
	if h.LogConfig.Type == "" {
		h.LogConfig.Type = jsonFile
	}
	if h.LogConfig.Config == nil {
		h.LogConfig.Config = map[string]string{}
	}
	if h.RestartPolicy.Name == "" {
		h.RestartPolicy.Name = container.RestartPolicyDisabled
	}
	if err := container.ValidateRestartPolicy(h.RestartPolicy); err != nil {
		return nil, fault.InvalidArgument("%w", err)
	}
	if h.AutoRemove && !h.RestartPolicy.IsNone() {
		return nil, fault.InvalidArgument("can't create 'AutoRemove' container with restart policy")
	}
	if err := checkNulls(&h.Resources); err != nil {
		return nil, err
	}
	if err := checkHealth(r.Config.Healthcheck); err != nil {
		return nil, err
	}
	if nc != nil {
		r.Networks = nc.EndpointsConfig
	}
	m.resolveModes(h)
	if err := m.setHostname(r); err != nil {
		return nil, err
	}
	warnings, err := spec.Validate(r.Config, h, m.o.Host)
	if err != nil {
		return nil, err
	}
	without, err := m.o.NetUse.Check(r)
	if err != nil {
		return nil, err
	}
	warnings = append(warnings, without...)
	if _, err := logTarget(r, m.dir(r.ID)); err != nil {
		return nil, err
	}
	if r.Mounts, err = mounts.Parse(r.Config, h, m.mountsOf); err != nil {
		return nil, err
	}
	nameVolumes(r.Mounts)
	return warnings, nil
}

// make saves the record and makes what the container consists of. The engine
// may die between any two lines: Recover removes what is still Creating.
func (m *Manager) make(ctx context.Context, r *Record) (err error) {
	c := newContainer(r)
	if err := m.save(r, process); err != nil {
		return err
	}
	crashpoint.Hit("container.create.saved-intent")
	var undo undoList
	defer func() {
		if err != nil {
			undo.run()
		}
	}()
	undo.add(func() { logFailure(r, "remove the record", m.store.DeleteRecent(r.ID)) })
	kept, err := spec.KeptIDs(r.HostConfig, m.o.Host)
	if err != nil {
		return err
	}
	if err := m.o.Images.CreateRootFS(ctx, r.ID, r.Image, r.HostConfig.AutoRemove, kept); err != nil {
		return named(r, "create", err)
	}
	crashpoint.Hit("container.create.made-rootfs")
	undo.add(func() { logFailure(r, "remove the file system", m.o.Images.RemoveRootFS(r.ID)) })

	if kept != nil {
		if err := m.o.introduce(ctx, r, *kept); err != nil {
			return named(r, "create", err)
		}
	}
	points, err := m.o.Volumes.Prepare(ctx, r.ID, r.Mounts, m.o.mounted(r))
	if err != nil {
		return err
	}
	undo.add(func() {
		logFailure(r, "release the volumes", m.o.Volumes.Release(context.WithoutCancel(ctx), r.ID, points, true))
	})
	crashpoint.Hit("container.create.made-volumes")
	if err := m.move(c, Created, r.kept(), func(r *Record) { r.Mounts = points }); err != nil {
		return err
	}
	crashpoint.Hit("container.create.saved")
	m.add(c)
	m.o.NetUse.Adopt(c.Snapshot())
	m.publish(c.Snapshot(), events.ActionCreate)
	return nil
}

// introduce makes the user known to a container that has him under ids of his
// own, so that programs find his name and home.
func (o *Options) introduce(ctx context.Context, r *Record, kept spec.IDs) error {
	rootfs, release, err := o.mounted(r)(ctx)
	if err != nil {
		return err
	}
	defer release()
	var targets []string
	for _, p := range r.Mounts {
		targets = append(targets, p.Target)
	}
	return o.Introduce(rootfs, kept, targets)
}

// anonymousLabel marks volumes that nobody named.
const anonymousLabel = "com.docker.volume.anonymous"

// nameVolumes gives anonymous volumes their names now, so that the record of
// a container that is Creating tells which volumes go with it.
func nameVolumes(points []mounts.Point) {
	for i := range points {
		if p := &points[i]; p.Type == mount.TypeVolume && p.Name == "" {
			p.Name = newID()
			p.Labels = merged(p.Labels, map[string]string{anonymousLabel: ""})
		}
	}
}

// mounted returns a function that mounts the container's root file system
// for a while.
func (o *Options) mounted(r *Record) func(context.Context) (string, func(), error) {
	return func(context.Context) (string, func(), error) {
		path, err := o.RootFS.MountRootFS(r.ID)
		return path, func() { logFailure(r, "unmount the file system", o.RootFS.UnmountRootFS(r.ID)) }, err
	}
}

// checkNulls refuses lists with entries that are null: nothing can be meant.
func checkNulls(r *container.Resources) error {
	for name, null := range map[string]bool{
		"Ulimits":              slices.Contains(r.Ulimits, nil),
		"BlkioWeightDevice":    slices.Contains(r.BlkioWeightDevice, nil),
		"BlkioDeviceReadBps":   slices.Contains(r.BlkioDeviceReadBps, nil),
		"BlkioDeviceWriteBps":  slices.Contains(r.BlkioDeviceWriteBps, nil),
		"BlkioDeviceReadIOps":  slices.Contains(r.BlkioDeviceReadIOps, nil),
		"BlkioDeviceWriteIOps": slices.Contains(r.BlkioDeviceWriteIOps, nil),
	} {
		if null {
			return fault.InvalidArgument("an entry of %s is null", name)
		}
	}
	return nil
}
