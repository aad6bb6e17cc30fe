package container

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/moby/moby/api/types/events"
	"golang.org/x/sys/unix"

	"github.com/kelp-engine/kelp/engine/crashpoint"
	"github.com/kelp-engine/kelp/engine/fault"
	"github.com/kelp-engine/kelp/engine/keeper"
	"github.com/kelp-engine/kelp/engine/record"
	"github.com/kelp-engine/kelp/engine/spec"
)

// hold finds a container and takes its operation token, for an operation that
// wants its state to be the true one.
func hold(ctx context.Context, m *runner, ref string) (c *Container, release func(), err error) {
	if c, err = m.Find(ref); err != nil {
		return nil, nil, err
	}
	if release, err = c.beginOp(ctx); err != nil {
		return nil, nil, err
	}
	m.settle(context.WithoutCancel(ctx), c)
	return c, release, nil
}

// Start runs a container that is at rest.
func (m *Manager) Start(ctx context.Context, ref string) error {
	c, release, err := hold(ctx, m.runner, ref)
	if err != nil {
		return err
	}
	defer release()
	switch r := c.Snapshot(); r.State {
	case Created, Exited, Restarting:
	case Running, Stopping:
		return fault.NotModified("container %s is already running", r.Name)
	case Paused:
		return fault.Conflict("cannot start a paused container, try unpause instead")
	default:
		return fault.Conflict("container is marked for removal and cannot be started")
	}
	c.stopRestartTimer()
	return m.start(ctx, c, func(r *Record) { r.StoppedByUser, r.RestartCount = false, 0 })
}

// start runs a container. The engine may die between any two lines; Recover
// undoes what Starting left behind, or adopts the process if there is one.
//
// Preconditions: the operation token is held; the container does not run.
func (m *runner) start(ctx context.Context, c *Container, edit func(*Record)) (err error) {
	ctx = context.WithoutCancel(ctx) // half a start is of no use to anyone
	m.bg.run(m.o.expectStart)
	if err := m.move(c, Starting, process, edit); err != nil {
		return err
	}
	crashpoint.Hit("container.start.saved-intent")
	var undo undoList
	defer func() {
		if err == nil {
			return
		}
		undo.run()
		m.startFailed(ctx, c, err)
	}()
	req, net, err := m.prepare(ctx, c.Snapshot(), &undo)
	if err != nil {
		return err
	}
	crashpoint.Hit("container.start.prepared")
	started, err := m.o.Processes.Start(ctx, *req)
	if err != nil {
		return named(c.Snapshot(), "start", err)
	}
	undo.add(func() { m.o.killNow(ctx, c.Snapshot()) })
	crashpoint.Hit("container.start.started-process")
	r := c.Snapshot()
	if err := m.move(c, Running, r.wantedToRun(), func(r *Record) {
		r.Process, r.StartedAt = started, started.At
		r.Addresses, r.HostPorts = net.Addresses, net.HostPorts
		r.ExitCode, r.OOMKilled, r.Error = 0, false, ""
		r.Health = initialHealth(r.Config)
		r.StartAgain, r.Ending = false, nil
	}); err != nil {
		return err
	}
	crashpoint.Hit("container.start.saved")
	m.publish(c.Snapshot(), events.ActionStart)
	m.watchHealth(c)
	return nil
}

// expectStart has the kernel get ready for a process to come.
func (o *Options) expectStart(context.Context) { o.Cgroups.Ready() }

// prepare makes what the container's process needs to run in.
func (m *runner) prepare(ctx context.Context, r *Record, undo *undoList) (*keeper.StartRequest, *Network, error) {
	rootfs, err := m.o.RootFS.MountRootFS(r.ID)
	if err != nil {
		return nil, nil, named(r, "mount the file system of", err)
	}
	undo.add(func() { logFailure(r, "unmount the file system", m.o.RootFS.UnmountRootFS(r.ID)) })
	crashpoint.Hit("container.start.mounted-rootfs")
	undo.add(func() { logFailure(r, "unmount the volumes", m.o.Volumes.Unmount(ctx, r.ID, r.Mounts)) })
	points, err := m.o.Volumes.Mount(ctx, r.ID, r.Mounts)
	if err != nil {
		return nil, nil, err
	}
	crashpoint.Hit("container.start.mounted-volumes")
	undo.add(func() { logFailure(r, "detach the networks", m.o.Networks.Detach(ctx, r.ID)) })
	net, err := m.o.Networks.Attach(ctx, r)
	if err != nil {
		return nil, nil, err
	}
	crashpoint.Hit("container.start.attached-networks")
	in := spec.Input{
		Config: r.Config, HostConfig: r.HostConfig,
		Rootfs: rootfs, Mounts: points, Host: m.o.Host,
	}
	if r.HostConfig.Init != nil && *r.HostConfig.Init {
		if in.Init, err = m.o.Init(); err != nil {
			return nil, nil, err
		}
	}
	if in.Shm, err = m.sharedMemory(r); err != nil {
		return nil, nil, err
	}
	if err := markContainer(rootfs); err != nil {
		return nil, nil, named(r, "start", err)
	}
	in.Env = net.Env
	if err := writeFiles(m.dir(r.ID), net, &in); err != nil {
		return nil, nil, named(r, "start", err)
	}
	if in.Join, err = m.joins(r); err != nil {
		return nil, nil, err
	}
	built, err := spec.Build(in)
	if err != nil {
		return nil, nil, err
	}
	log, err := logTarget(r, m.dir(r.ID))
	if err != nil {
		return nil, nil, err
	}
	group, systemd := m.o.Cgroups.Container(r.ID, r.HostConfig.CgroupParent)
	return &keeper.StartRequest{
		ID:            r.ID,
		Spec:          built,
		Sandbox:       net.Sandbox,
		Cgroup:        group,
		SystemdCgroup: systemd,
		Stdio: keeper.Stdio{
			TTY:       r.Config.Tty,
			Stdin:     r.Config.OpenStdin,
			StdinOnce: r.Config.StdinOnce,
			Height:    uint16(r.HostConfig.ConsoleSize[0]),
			Width:     uint16(r.HostConfig.ConsoleSize[1]),
		},
		Log: log,
	}, net, nil
}

// sharedMemory returns what the container has as /dev/shm in common with those
// that may join, or it has joined, its IPC namespace; "" when it has its own.
func (m *runner) sharedMemory(r *Record) (path string, err error) {
	mode := r.HostConfig.IpcMode
	if !mode.IsContainer() {
		if mode.IsShareable() {
			path, err = m.o.Volumes.Shm(r.ID, spec.ShmSize(r.HostConfig))
		}
		return path, err
	}
	c, err := m.Find(mode.Container())
	if err != nil {
		return "", err
	}
	other := c.Snapshot()
	switch donor := other.HostConfig.IpcMode; {
	case donor.IsShareable():
		return m.o.Volumes.Shm(other.ID, spec.ShmSize(other.HostConfig))
	case donor.IsHost():
		return "/dev/shm", nil
	}
	return "", fault.Conflict("cannot join IPC of a container %s: non-shareable IPC (hint: use IpcMode:shareable for the donor container)", other.ID)
}

// markContainer makes the file by which programs know that they run in a
// container of Docker's kind.
func markContainer(rootfs string) error {
	fd, err := unix.Open(filepath.Join(rootfs, ".dockerenv"), unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o755)
	if errors.Is(err, unix.EEXIST) {
		return nil
	}
	if err != nil {
		return &fs.PathError{Op: "make", Path: "/.dockerenv", Err: err}
	}
	return unix.Close(fd)
}

// writeFiles writes the container's own files for /etc.
func writeFiles(dir string, net *Network, in *spec.Input) error {
	for _, file := range []struct {
		name    string
		content []byte
		path    *string
	}{
		{"hosts", net.Hosts, &in.Hosts},
		{"hostname", net.Hostname, &in.Hostname},
		{"resolv.conf", net.ResolvConf, &in.ResolvConf},
	} {
		if len(file.content) == 0 {
			continue
		}
		*file.path = filepath.Join(dir, file.name)
		if err := record.Rewrite(*file.path, file.content, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// joins finds the processes whose namespaces the container shares.
func (g *registry) joins(r *Record) (j spec.Join, err error) {
	h := r.HostConfig
	for _, mode := range []struct {
		what  string
		join  bool
		other string
		pid   *int
	}{
		{"network", h.NetworkMode.IsContainer(), h.NetworkMode.ConnectedContainer(), &j.Network},
		{"IPC", h.IpcMode.IsContainer(), h.IpcMode.Container(), &j.IPC},
		{"PID", h.PidMode.IsContainer(), h.PidMode.Container(), &j.PID},
	} {
		if !mode.join {
			continue
		}
		c, err := g.Find(mode.other)
		if err != nil {
			return j, err
		}
		other := c.Snapshot()
		if !other.State.Running() {
			return j, fault.Conflict("cannot join the %s namespace of container %s: it is not running", mode.what, other.Name).
				WithHint("start it first with 'docker start %s'", other.Name)
		}
		*mode.pid = other.Process.PID
	}
	return j, nil
}

// startFailed sets the container back to rest, with the exit code by which
// Docker's client tells why.
//
// Preconditions: the operation token is held.
func (m *runner) startFailed(ctx context.Context, c *Container, cause error) {
	r := c.Snapshot()
	err := m.happened(c, r.resting(), process, func(r *Record) {
		r.ExitCode, r.Error, r.StartAgain = startExitCode(cause), cause.Error(), false
	})
	logFailure(r, "save the failed start", err)
	if r.HostConfig.AutoRemove {
		logFailure(r, "remove the remains", m.remove(ctx, c, true))
	}
}

// errInterrupted is why a container is at rest that was being started.
var errInterrupted = errors.New("kelp's engine ended while it started the container")

// startExitCode is 127 for a command that is not there, 126 for one that
// cannot be executed, 128 for all else.
func startExitCode(err error) int {
	text := err.Error()
	for _, s := range []string{"executable file not found", "no such file or directory"} {
		if strings.Contains(text, s) {
			return 127
		}
	}
	for _, s := range []string{"permission denied", "is a directory", "exec format error"} {
		if strings.Contains(text, s) {
			return 126
		}
	}
	return 128
}
