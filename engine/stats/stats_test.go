package stats

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"

	"github.com/kelp-engine/kelp/engine/fault"
	"github.com/kelp-engine/kelp/engine/keeper"
)

// fake is one container, and the keeper's counts of it.
type fake struct {
	c     Container
	gone  bool
	stats []keeper.Stats // taken from the front
}

func (f *fake) LookupStats(ref string) (Container, error) {
	if f.gone || ref != f.c.ID && ref != f.c.Name {
		return Container{}, fault.NotFound("No such container: %s", ref)
	}
	return f.c, nil
}

func (f *fake) Stats(context.Context, string) (keeper.Stats, error) {
	if len(f.stats) == 0 {
		return keeper.Stats{}, fault.NotFound("the keeper runs no container")
	}
	s := f.stats[0]
	f.stats = f.stats[1:]
	return s, nil
}

func sample(at int64, cpu uint64) keeper.Stats {
	return keeper.Stats{
		Read: time.Unix(at, 0),
		CPU:  keeper.CPUStats{Total: cpu, Machine: 2 * cpu, Online: 2},
		Memory: keeper.Memory{
			Usage: 10, Machine: 1000, Details: map[string]uint64{"inactive_file": 3},
		},
		PIDs:    keeper.PIDs{Current: 4},
		IO:      []keeper.IOStats{{Major: 8, ReadBytes: 5, WriteBytes: 6}},
		Network: []keeper.Interface{{Name: "eth0", RxBytes: 7}},
	}
}

func manager(f *fake) *Manager {
	m := New(f, f)
	m.interval = time.Millisecond
	return m
}

func TestOnce(t *testing.T) {
	f := &fake{c: Container{ID: "c1", Name: "web", Running: true}, stats: []keeper.Stats{sample(1, 100), sample(2, 150)}}
	s, err := manager(f).Once(t.Context(), "web", true)
	if err != nil {
		t.Fatal(err)
	}
	if s.Name != "/web" || s.CPUStats.CPUUsage.TotalUsage != 150 || s.PreCPUStats.CPUUsage.TotalUsage != 100 || !s.PreRead.Equal(time.Unix(1, 0)) {
		t.Errorf("got %+v", s)
	}
	if s.MemoryStats.Limit != 1000 || s.MemoryStats.Stats["inactive_file"] != 3 || s.PidsStats.Current != 4 {
		t.Errorf("memory and pids: %+v %+v", s.MemoryStats, s.PidsStats)
	}
	if len(s.Networks) != 1 || s.Networks["eth0"].RxBytes != 7 || len(s.BlkioStats.IoServiceBytesRecursive) != 2 {
		t.Errorf("networks and devices: %+v %+v", s.Networks, s.BlkioStats)
	}
	f.stats = []keeper.Stats{sample(1, 100)}
	if s, err := manager(f).Once(t.Context(), "web", false); err != nil || s.PreCPUStats.CPUUsage.TotalUsage != 0 {
		t.Errorf("one shot: %+v, %v", s, err)
	}
	f.c.Running = false
	if s, err := manager(f).Once(t.Context(), "web", true); err != nil || s.ID != "c1" || !s.Read.IsZero() {
		t.Errorf("of a container at rest: %+v, %v", s, err)
	}
	if _, err := manager(f).Once(t.Context(), "nosuch", true); err == nil {
		t.Error("no error for an unknown container")
	}
}

func TestWatch(t *testing.T) {
	f := &fake{c: Container{ID: "c1", Name: "web", Running: true}, stats: []keeper.Stats{sample(1, 100), sample(2, 150), sample(3, 20)}}
	var got []container.StatsResponse
	err := manager(f).Watch(t.Context(), "web", func(s container.StatsResponse) error {
		got = append(got, s)
		switch len(got) {
		case 4:
			f.gone = true
		case 3:
			f.c.Running = false
		}
		return nil
	})
	if err != nil || len(got) != 4 {
		t.Fatalf("%d samples, %v", len(got), err)
	}
	if pre := got[1].PreCPUStats.CPUUsage.TotalUsage; pre != 100 {
		t.Errorf("second sample follows %d", pre)
	}
	if pre := got[2].PreCPUStats.CPUUsage.TotalUsage; pre != 0 {
		t.Errorf("a restart's first sample follows %d", pre)
	}
	if !got[3].Read.IsZero() {
		t.Errorf("a stopped container has %+v", got[3])
	}
	f.gone = false
	gone := errors.New("client gone")
	if err := manager(f).Watch(t.Context(), "web", func(container.StatsResponse) error { return gone }); !errors.Is(err, gone) {
		t.Errorf("the client's error became %v", err)
	}
}
