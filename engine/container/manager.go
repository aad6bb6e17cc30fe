package container

import (
	"fmt"
	"log/slog"
	"slices"
	"sync"

	"github.com/kelp-engine/kelp/engine/keeper"
	"github.com/kelp-engine/kelp/engine/spec"
	"github.com/kelp-engine/kelp/userns/cgroup"
)

// Options are what a Manager works with.
type Options struct {
	Dir string // where the containers' records and files lie
	// Init returns the path of the program that `--init` puts in front.
	Init      func() (string, error)
	Cgroups   cgroup.Info
	Driver    string // of storage, for inspect
	Host      spec.Host
	Processes Processes
	Tasks     Tasks
	Prober    Prober
	// Introduce makes the user known, as kept, to a root file system where
	// directories are mounted.
	Introduce func(rootfs string, kept spec.IDs, mounted []string) error
	Images    Images
	RootFS    RootFS
	Networks  Networks
	Volumes   Volumes
	VolumeUse VolumeUse
	NetUse    NetworkUse
	Events    Publisher
}

// Manager owns all containers.
type Manager struct {
	*runner
	viewer
	*etcFiles
}

// SetExecs says who knows the execs that Inspect lists. Call it before serving
// anyone.
func (m *Manager) SetExecs(e Execs) { m.execs = e }

// viewer describes containers and changes none.
type viewer struct{ *runner }

// New returns a manager of the containers below o.Dir. Recover brings them in.
func New(o Options) (*Manager, error) {
	g, err := newRegistry(o.Dir, o.Events)
	if err != nil {
		return nil, err
	}
	r := &runner{registry: g, o: o, bg: newBackground(), stopping: make(chan struct{}), slots: make(chan struct{}, parallelRestarts)}
	r.probes = &probes{o: &r.o, running: map[string]chan keeper.Task{}}
	return &Manager{r, viewer{r}, &etcFiles{g: g}}, nil
}

// Close ends what the manager does in the background. Containers run on.
func (m *Manager) Close() error {
	m.bg.close()
	return nil
}

// runner takes containers through a run: start, the end of their process, and
// what follows from it.
type runner struct {
	*registry
	o      Options
	bg     *background
	probes *probes
	// stopping is closed by StopAll: nothing is restarted any more.
	stopping chan struct{}
	stopOnce sync.Once
	slots    chan struct{} // tokens of restarts under way
	execs    Execs         // nil until SetExecs
}

// undoList holds what to take back when an operation fails half way.
type undoList []func()

func (u *undoList) add(f func()) { *u = append(*u, f) }

// run undoes the latest first.
func (u *undoList) run() {
	for _, f := range slices.Backward(*u) {
		f()
	}
	*u = nil
}

// named wraps an error of an operation on a container.
func named(r *Record, what string, err error) error {
	return fmt.Errorf("cannot %s container %s: %w", what, r.Name, err)
}

// logFailure is for what goes on although a step of it failed.
func logFailure(r *Record, what string, err error) {
	if err != nil {
		slog.Error("cannot "+what+" of a container", "container", r.Name, "id", r.ID, "error", err)
	}
}
