package container

import (
	"context"
	"errors"
	"maps"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/kelp-engine/kelp/engine/events"
	"github.com/kelp-engine/kelp/engine/fault"
	"github.com/kelp-engine/kelp/engine/keeper"
	"github.com/kelp-engine/kelp/engine/mounts"
	"github.com/kelp-engine/kelp/engine/spec"
)

// fakeKeeper stands for the keeper, which needs a user namespace. It keeps
// tasks as the real one does; its processes are numbers.
type fakeKeeper struct {
	mu       sync.Mutex
	tasks    map[keeper.Ref]keeper.Task
	watchers map[chan keeper.Task]bool
	pid      int
	startErr error
	started  []keeper.StartRequest
	// deaf processes end by SIGKILL only.
	deaf bool
	// signals received, in order.
	signals []int
	// pausing is called while a pause is under way.
	pausing func()
	// probe plays a health check.
	probe func(out *os.File) (exitCode int)
}

func newFakeKeeper() *fakeKeeper {
	return &fakeKeeper{tasks: map[keeper.Ref]keeper.Task{}, watchers: map[chan keeper.Task]bool{}, pid: 100}
}

func (k *fakeKeeper) run(ref keeper.Ref) keeper.Started {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.pid++
	s := keeper.Started{PID: k.pid, StartTime: uint64(k.pid), At: time.Now()}
	k.tasks[ref] = keeper.Task{Ref: ref, Started: s, Status: keeper.Running}
	return s
}

func (k *fakeKeeper) Start(_ context.Context, r keeper.StartRequest) (keeper.Started, error) {
	k.mu.Lock()
	err := k.startErr
	k.started = append(k.started, r)
	k.mu.Unlock()
	if err != nil {
		return keeper.Started{}, err
	}
	return k.run(keeper.Ref{Container: r.ID}), nil
}

func (k *fakeKeeper) Exec(_ context.Context, r keeper.ExecRequest, attach *os.File, _ func(keeper.AttachResult, error)) (keeper.Started, error) {
	s := k.run(r.Ref)
	fd := dup(attach)
	go func() {
		code := k.probe(fd)
		fd.Close()
		k.exit(r.Ref, code)
	}()
	return s, nil
}

// exit ends a process.
func (k *fakeKeeper) exit(ref keeper.Ref, code int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	t, ok := k.tasks[ref]
	if !ok || t.Status == keeper.Exited {
		return
	}
	t.Status, t.ExitCode, t.ExitedAt = keeper.Exited, code, time.Now()
	k.tasks[ref] = t
	for w := range k.watchers {
		w <- t
	}
}

func (k *fakeKeeper) Signal(_ context.Context, ref keeper.Ref, signal int, _ bool) error {
	k.mu.Lock()
	t, ok := k.tasks[ref]
	k.signals = append(k.signals, signal)
	deaf := k.deaf
	k.mu.Unlock()
	if !ok || t.Status == keeper.Exited {
		return fault.NotFound("no such process")
	}
	if signal == sigKill || signal == sigTerm && !deaf {
		k.exit(ref, 128+signal)
	}
	return nil
}

// signalled is how many signals came.
func (k *fakeKeeper) signalled() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.signals)
}

func (k *fakeKeeper) setStatus(id string, s keeper.Status) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	t := k.tasks[keeper.Ref{Container: id}]
	t.Status = s
	k.tasks[t.Ref] = t
	return nil
}

// Pause answers as the real one: a client that does not wait gets no answer,
// but the container is paused.
func (k *fakeKeeper) Pause(ctx context.Context, id string) error {
	if k.pausing != nil {
		k.pausing()
	}
	return errors.Join(k.setStatus(id, keeper.Paused), ctx.Err())
}

func (k *fakeKeeper) Resume(_ context.Context, id string) error {
	return k.setStatus(id, keeper.Running)
}

func (k *fakeKeeper) Update(context.Context, string, specs.LinuxResources) error { return nil }

func (k *fakeKeeper) Processes(context.Context, string) ([]int, error) {
	return []int{os.Getpid()}, nil
}

func (k *fakeKeeper) Tasks(context.Context) ([]keeper.Task, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Collect(maps.Values(k.tasks)), nil
}

func (k *fakeKeeper) Watch(ctx context.Context, each func(keeper.Task) error) error {
	w := make(chan keeper.Task, 100)
	k.mu.Lock()
	for _, t := range k.tasks {
		w <- t
	}
	k.watchers[w] = true
	k.mu.Unlock()
	defer func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		delete(k.watchers, w)
	}()
	for {
		select {
		case t := <-w:
			if err := each(t); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (k *fakeKeeper) Forget(_ context.Context, ref keeper.Ref) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.tasks[ref].Status == keeper.Exited {
		delete(k.tasks, ref)
	}
	return nil
}

func (k *fakeKeeper) Hello(context.Context) (keeper.Hello, error) { return keeper.Hello{}, nil }

// fakeStore stands for the image store, whose file systems need a user namespace.
type fakeStore struct {
	mu      sync.Mutex
	dir     string
	rootfs  map[string]bool
	mounted map[string]int
}

const busyboxID = "sha256:b055"

func (s *fakeStore) Resolve(_ context.Context, ref string) (*Image, error) {
	if ref != "busybox" && ref != "busybox:latest" && ref != busyboxID {
		return nil, fault.NotFound("No such image: %s", ref)
	}
	return &Image{ID: busyboxID, Config: dockerspec.DockerOCIImageConfig{
		ImageConfig: ocispec.ImageConfig{
			Cmd: []string{"sh"}, Env: []string{"PATH=/bin", "A=image"},
			Labels: map[string]string{"from": "image"}, ExposedPorts: map[string]struct{}{"80/tcp": {}},
		},
	}}, nil
}

func (s *fakeStore) set(id string, there bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if there {
		s.rootfs[id] = true
	} else {
		delete(s.rootfs, id)
		delete(s.mounted, id)
	}
}

func (s *fakeStore) CreateRootFS(_ context.Context, id, _ string, _ bool, _ *spec.IDs) error {
	s.set(id, true)
	return nil
}

func (s *fakeStore) RemoveRootFS(id string) error { s.set(id, false); return nil }

func (s *fakeStore) RootFSIDs() ([]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Keys(s.rootfs)), nil
}

func (s *fakeStore) MountRootFS(id string) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mounted[id]++
	return s.dir, nil
}

func (s *fakeStore) UnmountRootFS(id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mounted[id]--; s.mounted[id] <= 0 {
		delete(s.mounted, id)
	}
	return nil
}

func (s *fakeStore) isMounted(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mounted[id] > 0
}

func (s *fakeStore) Changes(string) ([]container.FilesystemChange, error) { return nil, nil }
func (s *fakeStore) RootFSSize(string) (int64, int64, error)              { return 7, 10, nil }

// noNets connects nothing.
type noNets struct{}

func (noNets) Check(*Record) ([]string, error) { return nil, nil }
func (noNets) Adopt(*Record)                   {}

func (noNets) Attach(context.Context, *Record) (*Network, error) {
	return &Network{Hostname: []byte("c\n")}, nil
}
func (noNets) Detach(context.Context, string) error   { return nil }
func (noNets) Remove(context.Context, string) error   { return nil }
func (noNets) Renamed(context.Context, *Record) error { return nil }
func (noNets) Settings(*Record) *container.NetworkSettings {
	return &container.NetworkSettings{Networks: map[string]*network.EndpointSettings{"none": {}}}
}

// noVolumes makes none.
type noVolumes struct{}

func (noVolumes) Prepare(_ context.Context, _ string, p []mounts.Point, _ func(context.Context) (string, func(), error)) ([]mounts.Point, error) {
	return p, nil
}

func (noVolumes) Mount(_ context.Context, _ string, p []mounts.Point) ([]mounts.Point, error) {
	return p, nil
}
func (noVolumes) Unmount(context.Context, string, []mounts.Point) error       { return nil }
func (noVolumes) Release(context.Context, string, []mounts.Point, bool) error { return nil }
func (noVolumes) Adopt(string, []mounts.Point, bool)                          {}
func (noVolumes) Shm(string, int64) (string, error)                           { return "", nil }
func (noVolumes) Sweep() error                                                { return nil }

// world is what a manager works in; it outlives managers as the keeper and
// the disk outlive engines.
type world struct {
	t      *testing.T
	dir    string
	keeper *fakeKeeper
	store  *fakeStore
	events *events.Bus
}

func newWorld(t *testing.T) *world {
	return &world{
		t: t, dir: t.TempDir(), keeper: newFakeKeeper(), events: events.NewBus(),
		store: &fakeStore{dir: t.TempDir(), rootfs: map[string]bool{}, mounted: map[string]int{}},
	}
}

// manager starts an engine's manager; end ends it as a crash would.
func (w *world) manager(boot bool) *Manager {
	w.t.Helper()
	m, err := New(Options{
		Dir: w.dir, Processes: w.keeper, Tasks: w.keeper, Prober: w.keeper, Images: w.store, RootFS: w.store,
		Networks: noNets{}, Volumes: noVolumes{}, VolumeUse: noVolumes{}, NetUse: noNets{}, Events: w.events, Host: spec.Host{MaxID: 65535},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	if err := m.Recover(w.t.Context(), boot); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { m.Close() })
	return m
}

// create makes a container that runs nothing in particular.
func (w *world) create(m *Manager, name string, edit func(*container.CreateRequest)) string {
	w.t.Helper()
	req := container.CreateRequest{
		Config:     &container.Config{Image: "busybox"},
		HostConfig: &container.HostConfig{NetworkMode: "none"},
	}
	if edit != nil {
		edit(&req)
	}
	id, _, err := m.Create(w.t.Context(), name, req)
	if err != nil {
		w.t.Fatal(err)
	}
	return id
}

func (w *world) check(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// await waits until the container is in the state.
func (w *world) await(m *Manager, ref string, want State) *Record {
	w.t.Helper()
	c, err := m.Find(ref)
	w.check(err)
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Minute)
	defer cancel()
	if err := c.await(ctx, func(r *Record, _ *keeper.Task, _ bool) bool { return r.State == want }); err != nil {
		w.t.Fatalf("%s is %s, not %s", ref, c.Snapshot().State, want)
	}
	return c.Snapshot()
}

// onDisk returns the container's record as the next engine would read it.
func (w *world) onDisk(id string) *Record {
	w.t.Helper()
	g, err := newRegistry(w.dir, w.events)
	w.check(err)
	r, err := g.store.Load(id)
	if os.IsNotExist(err) {
		return nil
	}
	w.check(err)
	return r
}
