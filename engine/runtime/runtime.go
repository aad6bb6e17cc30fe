// Package runtime runs containers with libcontainer, which it alone imports.
// It is linked into the keeper only.
//
// It must not know the engine's records, images or the Engine API, nor what
// becomes of a process's output.
package runtime

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	_ "github.com/opencontainers/cgroups/devices" // device rules of cgroups
	"github.com/opencontainers/runc/libcontainer"
	"github.com/opencontainers/runc/libcontainer/configs"
	_ "github.com/opencontainers/runc/libcontainer/nsenter" // enters namespaces before Go starts
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/kelp-engine/kelp/engine/fault"
	"github.com/kelp-engine/kelp/engine/keeper"
)

// Init is a process of a container before it becomes the user's program. It
// returns only when it fails.
func Init() error {
	// Containers must not outlive the keeper. The setting is the calling
	// thread's, which libcontainer locks and executes the program from; it
	// survives the change of user because libcontainer restores it.
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return fmt.Errorf("cannot set the parent-death signal: %w", err)
	}
	takeFilter()
	libcontainer.Init()
	return nil
}

// Runtime makes containers. libcontainer keeps a state directory for each
// that runs.
type Runtime struct {
	dir     string
	threads threads
	filters filters
}

// New returns a runtime that keeps its state below dir, which it empties: no
// container outlives the process that made it. It sets GOMAXPROCS in the
// environment, which libcontainer hands to its init and nobody else: one that
// does a single thing after the other starts faster with few threads.
func New(dir string) (*Runtime, error) {
	hushLibcontainer()
	if err := os.Setenv("GOMAXPROCS", "1"); err != nil {
		return nil, err
	}
	if err := os.RemoveAll(dir); err != nil {
		return nil, fmt.Errorf("cannot remove the state of earlier containers: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("cannot make the directory of container states: %w", err)
	}
	return &Runtime{dir: dir}, nil
}

// Config describes a container.
type Config struct {
	ID   string
	Spec *specs.Spec
	// Cgroup is the container's cgroup as in /proc/PID/cgroup, "" for none.
	// With SystemdCgroup it is slice:prefix:name.
	Cgroup        string
	SystemdCgroup bool
}

// Container is a container that was started.
type Container struct {
	c       *libcontainer.Container
	dir     string // libcontainer's state
	threads *threads
	program *os.File // of its seccomp filter; nil when each process compiles it
	init    *Process
	cgroup  bool // it has its own
	// ownPIDs says that the container's pid namespace ends with its first
	// process.
	ownPIDs      bool
	mounts, pids uint64 // inodes of its namespaces
	// held keeps the number mounts from being another namespace's while
	// processes of the container may have outlived its first one.
	held *os.File

	pausing sync.Mutex
	stopped map[int]uint64 // by Pause without a cgroup: start times by pid

	spent times // by executed processes that have ended
	usage counters
}

// Start makes a container and its first process. The process waits before its
// execve until Run is called, so that its terminal can be connected first.
//
// A container whose Start failed leaves nothing behind. One that started is
// to be destroyed when its first process has ended.
func (r *Runtime) Start(cfg Config, io IO) (_ *Container, err error) {
	if cfg.Spec == nil || cfg.Spec.Process == nil || cfg.Spec.Root == nil || cfg.Spec.Linux == nil {
		return nil, fault.InvalidArgument("the container's spec lacks its process, root or linux section")
	}
	if !filepath.IsAbs(cfg.Spec.Root.Path) {
		return nil, fault.InvalidArgument("the container's root %q is not an absolute path", cfg.Spec.Root.Path)
	}
	config, err := convert(cfg)
	if err != nil {
		return nil, err
	}
	process, err := newProcess(cfg.Spec.Process, io)
	if err != nil {
		return nil, err
	}
	process.Init = true
	program, err := r.filters.prepare(config)
	if err != nil {
		return nil, err
	}
	passProgram(process, program)

	state := filepath.Join(r.dir, cfg.ID)
	c := &Container{
		dir: state, threads: &r.threads, program: program, cgroup: cfg.Cgroup != "",
		ownPIDs: config.Namespaces.IsPrivate(configs.NEWPID),
	}
	r.threads.do(func() {
		if c.c, err = libcontainer.Create(r.dir, cfg.ID, config); err != nil {
			err = fmt.Errorf("cannot make the container: %w", err)
			return
		}
		// Without the right to set groups libcontainer leaves those of its
		// caller. It is told after it has made the container, of which it
		// would demand a user namespace then.
		config.RootlessEUID = cfg.Spec.Annotations[keeper.KeepGroups] == "1"
		if err = c.c.Start(process); err != nil {
			err = explainStart(err)
		}
	})
	if err != nil { // libcontainer has killed the process but leaves its state
		return nil, errors.Join(err, os.RemoveAll(state))
	}
	if c.init, err = identify(process); err != nil {
		return nil, errors.Join(err, c.Destroy())
	}
	c.mounts, c.pids = namespace(c.init.PID, "mnt"), namespace(c.init.PID, "pid")
	if !c.ownPIDs {
		c.held, err = os.Open(fmt.Sprintf("/proc/%d/ns/mnt", c.init.PID))
		if err != nil {
			_, kerr := c.init.Kill()
			return nil, errors.Join(err, kerr, c.c.Destroy())
		}
	}
	return c, nil
}

// Process is the container's first process.
func (c *Container) Process() *Process { return c.init }

// Run lets the first process go on to its program, and returns when it has.
func (c *Container) Run() error {
	before := executable(c.init.PID)
	if err := c.c.Exec(); err != nil {
		return fmt.Errorf("cannot let the container's first process go: %w", err)
	}
	awaitProgram(c.init.PID, before)
	return nil
}

// Exec starts a process in the container.
func (c *Container) Exec(spec *specs.Process, io IO) (*Process, error) {
	process, err := newProcess(spec, io)
	if err != nil {
		return nil, err
	}
	passProgram(process, c.program)
	c.threads.do(func() {
		if err = c.c.Start(process); err != nil {
			err = explainStart(err)
		}
	})
	if err != nil {
		select {
		case failedExec <- struct{}{}:
		default:
		}
		return nil, err
	}
	p, err := identify(process)
	if err != nil {
		return nil, err
	}
	p.spent = &c.spent
	return p, nil
}

// Destroy removes what is left of a container whose first process has ended,
// other processes included.
func (c *Container) Destroy() error {
	var err error
	if !c.ownPIDs {
		err = c.KillAll()
		c.held.Close()
	}
	return errors.Join(err, c.c.Destroy(), os.RemoveAll(c.dir))
}
