// Package stats tells what containers use, the way Docker's clients know it.
//
// It counts nothing: the keeper does.
package stats

import (
	"context"
	"errors"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"

	"github.com/kelp-engine/kelp/engine/keeper"
)

// Container is a container as far as its statistics go.
type Container struct {
	ID, Name string
	Running  bool
}

// Containers finds containers.
type Containers interface {
	// LookupStats finds a container by id, part of it, or name.
	LookupStats(ref string) (Container, error)
}

// Processes counts; keeper.Client is the real one.
type Processes interface {
	Stats(ctx context.Context, id string) (keeper.Stats, error)
}

// Manager reads statistics.
type Manager struct {
	containers Containers
	processes  Processes
	interval   time.Duration
}

// New returns a manager.
func New(c Containers, p Processes) *Manager {
	return &Manager{containers: c, processes: p, interval: time.Second}
}

// Once returns one sample. With previous it takes two, a second apart, so
// that the difference tells of the present.
func (m *Manager) Once(ctx context.Context, ref string, previous bool) (container.StatsResponse, error) {
	c, err := m.containers.LookupStats(ref)
	if err != nil {
		return container.StatsResponse{}, err
	}
	s := sampler{m: m, id: c.ID}
	sample, err := s.next(ctx)
	if err != nil || !previous || !c.Running {
		return sample, err
	}
	select {
	case <-ctx.Done():
		return sample, ctx.Err()
	case <-time.After(m.interval):
	}
	return s.next(ctx)
}

// Watch hands a sample to each every second, until ctx ends, the container is
// gone, or each fails. A container that does not run has empty ones.
func (m *Manager) Watch(ctx context.Context, ref string, each func(container.StatsResponse) error) error {
	c, err := m.containers.LookupStats(ref)
	if err != nil {
		return err
	}
	s := sampler{m: m, id: c.ID}
	tick := time.NewTicker(m.interval)
	defer tick.Stop()
	for {
		sample, err := s.next(ctx)
		if errors.Is(err, errdefs.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := each(sample); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// sampler takes samples of one container, each with the one before it.
type sampler struct {
	m    *Manager
	id   string
	last container.StatsResponse
}

// next takes a sample. A container that was removed is errdefs.ErrNotFound.
func (s *sampler) next(ctx context.Context) (container.StatsResponse, error) {
	c, err := s.m.containers.LookupStats(s.id)
	if err != nil {
		return container.StatsResponse{}, err
	}
	sample := container.StatsResponse{ID: c.ID, Name: "/" + c.Name, OSType: "linux"}
	if c.Running {
		now, err := s.m.processes.Stats(ctx, c.ID)
		switch {
		case err == nil:
			fill(&sample, now)
		case !errors.Is(err, errdefs.ErrNotFound) && !errors.Is(err, errdefs.ErrConflict):
			return sample, err
		}
	}
	sample.PreRead, sample.PreCPUStats = s.last.Read, s.last.CPUStats
	if sample.CPUStats.CPUUsage.TotalUsage < sample.PreCPUStats.CPUUsage.TotalUsage {
		sample.PreRead, sample.PreCPUStats = time.Time{}, container.CPUStats{} // it was started anew
	}
	s.last = sample
	return sample, nil
}

// fill puts what the keeper counted into Docker's form.
func fill(r *container.StatsResponse, s keeper.Stats) {
	r.Read = s.Read
	r.CPUStats = container.CPUStats{
		CPUUsage:    container.CPUUsage{TotalUsage: s.CPU.Total, UsageInUsermode: s.CPU.User, UsageInKernelmode: s.CPU.Kernel},
		SystemUsage: s.CPU.Machine,
		OnlineCPUs:  uint32(s.CPU.Online),
		ThrottlingData: container.ThrottlingData{
			Periods: s.CPU.Periods, ThrottledPeriods: s.CPU.ThrottledPeriods, ThrottledTime: s.CPU.Throttled,
		},
	}
	r.MemoryStats = container.MemoryStats{
		Usage: s.Memory.Usage, MaxUsage: s.Memory.Max, Limit: s.Memory.Limit, Failcnt: s.Memory.Failed, Stats: s.Memory.Details,
	}
	if r.MemoryStats.Limit == 0 || r.MemoryStats.Limit > s.Memory.Machine {
		r.MemoryStats.Limit = s.Memory.Machine
	}
	r.PidsStats = container.PidsStats{Current: s.PIDs.Current, Limit: s.PIDs.Limit}
	for _, io := range s.IO {
		r.BlkioStats.IoServiceBytesRecursive = append(r.BlkioStats.IoServiceBytesRecursive,
			container.BlkioStatEntry{Major: io.Major, Minor: io.Minor, Op: "read", Value: io.ReadBytes},
			container.BlkioStatEntry{Major: io.Major, Minor: io.Minor, Op: "write", Value: io.WriteBytes})
	}
	for _, n := range s.Network {
		if r.Networks == nil {
			r.Networks = map[string]container.NetworkStats{}
		}
		r.Networks[n.Name] = container.NetworkStats{
			RxBytes: n.RxBytes, RxPackets: n.RxPackets, RxErrors: n.RxErrors, RxDropped: n.RxDropped,
			TxBytes: n.TxBytes, TxPackets: n.TxPackets, TxErrors: n.TxErrors, TxDropped: n.TxDropped,
		}
	}
}
