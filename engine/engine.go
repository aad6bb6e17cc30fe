// Package engine is the engine process: it wires one manager per kind of
// object (container, image, network, volume, …) and recovers them at start.
//
// It must not know HTTP, and holds no logic of any kind of object itself.
package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/kelp-engine/kelp/engine/archive"
	"github.com/kelp-engine/kelp/engine/attach"
	"github.com/kelp-engine/kelp/engine/container"
	"github.com/kelp-engine/kelp/engine/events"
	"github.com/kelp-engine/kelp/engine/exec"
	"github.com/kelp-engine/kelp/engine/keeper"
	"github.com/kelp-engine/kelp/engine/network"
	"github.com/kelp-engine/kelp/engine/record"
	"github.com/kelp-engine/kelp/engine/spec"
	"github.com/kelp-engine/kelp/engine/stats"
	"github.com/kelp-engine/kelp/engine/system"
	"github.com/kelp-engine/kelp/engine/volume"
	"github.com/kelp-engine/kelp/image"
	"github.com/kelp-engine/kelp/image/transfer"
	"github.com/kelp-engine/kelp/userns/cgroup"
	"github.com/kelp-engine/kelp/userns/reserve"
)

// Config of an engine.
type Config struct {
	DataRoot   string `json:"data_root"`
	RuntimeDir string `json:"runtime_dir"`
	Socket     string `json:"socket"` // of the Engine API, in the host's file system
	Debug      bool   `json:"debug,omitempty"`
	// Networks are the user's choices for networks.
	Networks network.Defaults `json:"networks,omitzero"`
	// Insecure are registries that need no TLS.
	Insecure transfer.Insecure `json:"insecure,omitzero"`
	// Reload tells the 'kelp restart' that made this configuration from
	// others; 0 when kelp was started with it.
	Reload int64 `json:"reload,omitempty"`
}

// Engine holds the managers.
type Engine struct {
	Containers *container.Manager
	Images     *image.Store
	Transfer   *transfer.Manager
	Volumes    *volume.Manager
	Networks   *network.Manager
	Execs      *exec.Manager
	Attach     *attach.Manager
	Stats      *stats.Manager
	System     *system.Manager
	Archives   *archive.Service
	Events     *events.Bus

	cfg    Config
	keeper *keeper.Client
	boots  *record.Store[boot]
}

// boot tells keepers apart, of which a new one means that every process is
// gone, and configurations.
type boot struct {
	KeeperPID       int   `json:"keeper_pid"`
	KeeperStartedAt int64 `json:"keeper_started_at"`
	Reload          int64 `json:"reload,omitempty"`
}

// New opens what lies on disk and wires the managers. Call Recover before
// serving anyone.
func New(cfg Config) (*Engine, error) {
	if !filepath.IsAbs(cfg.DataRoot) || !filepath.IsAbs(cfg.RuntimeDir) {
		return nil, fmt.Errorf("the data root %q and the runtime directory %q must be absolute paths", cfg.DataRoot, cfg.RuntimeDir)
	}
	host, cgroups, err := probe(cfg.DataRoot)
	if err != nil {
		return nil, err
	}
	e := &Engine{cfg: cfg, keeper: keeper.NewEngineClient(cfg.RuntimeDir), Events: events.NewBus()}
	if e.boots, err = record.NewStore[boot](filepath.Join(cfg.DataRoot, "engine"), record.Options{Schema: 1}); err != nil {
		return nil, err
	}
	if err := e.openImages(); err != nil {
		return nil, err
	}
	e.Volumes, err = volume.NewManager(volume.Config{
		Dir:    filepath.Join(cfg.DataRoot, "volumes"),
		Run:    filepath.Join(cfg.RuntimeDir, "volumes"),
		Socket: cfg.Socket,
		Images: volumeImages{e.Images},
		Events: e.Events,
	})
	if err != nil {
		return nil, err
	}
	driver, _ := e.Images.Driver()
	e.Networks, err = network.New(network.Options{
		Dir:       filepath.Join(cfg.DataRoot, "networks"),
		Sandboxes: e.keeper.Networks(), Bridges: e.keeper.Networks(),
		Events:   e.Events,
		Defaults: cfg.Networks,
	})
	if err != nil {
		return nil, err
	}
	e.Containers, err = container.New(container.Options{
		Dir:       filepath.Join(cfg.DataRoot, "containers"),
		Host:      host,
		Init:      (&initProgram{dir: filepath.Join(cfg.DataRoot, "engine")}).path,
		Driver:    driver,
		Cgroups:   cgroups,
		Processes: e.keeper,
		Tasks:     e.keeper,
		Prober:    e.keeper,
		Introduce: introduction(host),
		Images:    containerImages{e.Images, host, cfg.DataRoot},
		RootFS:    e.Images,
		Networks:  containerNetworks{e.Networks},
		NetUse:    containerNetworks{e.Networks},
		Volumes:   e.Volumes,
		VolumeUse: e.Volumes,
		Events:    e.Events,
	})
	if err != nil {
		return nil, err
	}
	e.Images.SetUsers(imageUsers{e.Containers})
	e.Networks.SetContainers(networkContainers{e.Containers})
	e.Execs, err = exec.New(exec.Options{
		Dir:        filepath.Join(cfg.RuntimeDir, "execs"),
		Host:       host,
		Containers: containerStreams{e.Containers},
		Processes:  e.keeper,
	})
	if err != nil {
		return nil, err
	}
	e.Containers.SetExecs(e.Execs)
	e.Attach = attach.New(containerStreams{e.Containers}, e.keeper)
	e.Stats = stats.New(containerStreams{e.Containers}, e.keeper)
	e.System, err = system.New(system.Options{
		Dir:        filepath.Join(cfg.DataRoot, "engine"),
		DataRoot:   cfg.DataRoot,
		Debug:      cfg.Debug,
		Version:    Version(),
		Host:       host,
		Cgroups:    cgroups,
		Pools:      addressPools(cfg.Networks),
		Registries: registries(cfg.Insecure),
		Containers: systemContainers{e.Containers},
		Images:     systemImages{e.Images},
		Volumes:    e.Volumes,
		Networks:   e.Networks,
		Listeners:  e.Events.Listeners,
	})
	if err != nil {
		return nil, err
	}
	e.Archives, err = archive.NewService(archiveContainers{e.Containers, host}, e.Images, e.Volumes, filepath.Join(cfg.RuntimeDir, "views"), host.MaxID)
	return e, err
}

// openImages opens the image store and what moves images.
func (e *Engine) openImages() (err error) {
	e.Images, err = image.Open(image.Options{
		GraphRoot: filepath.Join(e.cfg.DataRoot, "storage"),
		RunRoot:   filepath.Join(e.cfg.RuntimeDir, "storage"),
		Reserve:   reserve.In(e.cfg.DataRoot),
		Events:    e.Events,
	})
	if err != nil {
		return err
	}
	o := transfer.Options{UserAgent: "kelp/" + Version(), CertDirs: []string{"/etc/docker/certs.d"}, Insecure: e.cfg.Insecure}
	if dir, err := os.UserConfigDir(); err == nil {
		o.CertDirs = append([]string{filepath.Join(dir, "docker", "certs.d")}, o.CertDirs...)
	}
	e.Transfer = transfer.New(e.Images, o)
	return nil
}

// probe finds out what the machine lets containers have.
func probe(dataRoot string) (spec.Host, cgroup.Info, error) {
	cgroups := cgroup.Probe().Of(dataRoot)
	host, err := spec.Probe()
	host.Controllers = map[string]bool{}
	for _, c := range cgroups.Controllers {
		host.Controllers[c] = true
	}
	host.CgroupNamespace = cgroups.Driver != cgroup.None
	return host, cgroups, err
}

// Recover brings records, mounts and processes into agreement after whatever
// ended the last engine, and starts what is to be started.
func (e *Engine) Recover(ctx context.Context) error {
	hello, err := e.keeper.Hello(ctx)
	if err != nil {
		return err
	}
	now := boot{KeeperPID: hello.PID, KeeperStartedAt: hello.StartedAt, Reload: e.cfg.Reload}
	last, err := e.boots.Load("boot")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	newKeeper := last == nil || last.KeeperPID != now.KeeperPID || last.KeeperStartedAt != now.KeeperStartedAt
	if err := e.Networks.Recover(ctx); err != nil {
		return err
	}
	if err := e.Containers.Recover(ctx, newKeeper); err != nil {
		return err
	}
	e.Networks.Repair(ctx, networkContainers{e.Containers}.active)
	if err := e.Execs.Recover(ctx); err != nil {
		return err
	}
	if now.Reload != 0 && (last == nil || last.Reload != now.Reload) {
		if err := e.publishReload(ctx); err != nil {
			return err
		}
	}
	// Saved last: a Recover that was cut short sees the boot again.
	if err := e.boots.SaveRecent("boot", &now); err != nil {
		return err
	}
	if err := reserve.In(e.cfg.DataRoot).Fill(); err != nil {
		slog.Warn("cannot set space aside for removing things from a full disk", "error", err)
	}
	return nil
}

// StopAll stops every running container, for the shutdown of the whole kelp.
func (e *Engine) StopAll(ctx context.Context) error { return e.Containers.StopAll(ctx) }

// Close releases what New opened. Containers run on.
func (e *Engine) Close() error {
	e.Execs.Close()
	return errors.Join(e.Containers.Close(), e.Images.Close())
}
