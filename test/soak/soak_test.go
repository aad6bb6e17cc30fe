// Package soak loads kelp with many clients at once, for as long as it is told
// to, while the engine is killed again and again. It holds that each client gets
// exactly what it asked for, and that nothing stays of the work.
package soak

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/moby/moby/client"

	"github.com/kelp-engine/kelp/test/harness"
	"github.com/kelp-engine/kelp/test/images"
)

var duration = flag.Duration("soak", 3*time.Second, "how long the load goes on while the engine is killed; a quarter of it before without; 0: without kills only")

const (
	clients   = 50
	killEvery = 20 * time.Second // at most; three kills in a short time
)

// grows is how many MiB more than before a process may have in the end: Go gives
// back late what a peak took.
var grows = map[string]int{"keeper": 24, "engine": 64}

func TestMain(m *testing.M) { harness.Main(m) }

// load is a kelp and those who use it.
type load struct {
	*harness.Kelp
	clients []*client.Client
	kills   kills
	lives   atomic.Int64 // of containers, from creation to removal
	broken  atomic.Int64 // calls that were under way at a kill
}

func TestSoak(t *testing.T) {
	l := &load{Kelp: start(t)}
	for range clients {
		c, err := client.New(client.WithHost("unix://" + l.Socket))
		must(t, err)
		l.clients = append(l.clients, c)
	}
	l.phase(t, "a container for each client", 0) // what is made once stays
	before := l.usage(t)
	l.phase(t, "without kills", *duration/4)
	l.settles(t, before)
	if *duration > 0 {
		l.underKills(t)
		l.settles(t, before)
	}
	must(t, l.CheckClean(t.Context()))
	must(t, l.Stop(t.Context()))
}

// underKills is the load while the engine is killed again and again.
func (l *load) underKills(t *testing.T) {
	t.Helper()
	killing, end := context.WithCancel(t.Context())
	defer end()
	killed := make(chan error, 1)
	go func() { killed <- l.killOften(killing, min(killEvery, *duration/3)) }()
	l.phase(t, "with kills", *duration)
	end()
	must(t, <-killed)
	if n := l.kills.count(); n == 0 {
		t.Error("the engine was never killed")
	} else {
		t.Logf("%d kills broke %d calls", n, l.broken.Load())
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// start returns a running kelp with the busybox image.
func start(t *testing.T) *harness.Kelp {
	k, err := harness.New()
	must(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			t.Log("kelp's log:\n" + k.Logs())
		}
		if err := k.Close(); err != nil {
			t.Error(err)
		}
	})
	archive := filepath.Join(t.TempDir(), "busybox.tar")
	must(t, (images.Recipe{Name: "busybox", Ref: "busybox:latest"}).Write(archive))
	must(t, k.Start(t.Context()))
	_, err = k.Docker(t.Context(), "load", "-q", "-i", archive)
	must(t, err)
	return k
}

// phase has all clients take containers through their lives for a time, each
// one at least, and finds no container afterwards.
func (l *load) phase(t *testing.T, what string, d time.Duration) {
	t.Helper()
	began, lives := time.Now(), l.lives.Load()
	group, ctx := errgroup.WithContext(t.Context())
	for i, c := range l.clients {
		group.Go(func() error {
			for first := true; first || time.Since(began) < d && ctx.Err() == nil; first = false {
				if err := l.live(ctx, c, i); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	t.Logf("%s: %d containers in %v", what, l.lives.Load()-lives, time.Since(began).Round(time.Millisecond))
	left, err := l.clients[0].ContainerList(t.Context(), client.ContainerListOptions{All: true})
	must(t, err)
	if len(left.Items) > 0 {
		t.Fatalf("%s: %d containers are left: %+v", what, len(left.Items), left.Items)
	}
	for _, c := range l.clients {
		must(t, c.Close()) // its idle connections
	}
}

// usage is what the keeper and the engine take of the machine.
type usage struct {
	harness.Census
	memory map[string]int // MiB
}

func (l *load) usage(t *testing.T) usage {
	t.Helper()
	u, err := l.takeUsage(t.Context())
	must(t, err)
	return u
}

func (l *load) takeUsage(ctx context.Context) (usage, error) {
	census, err := harness.TakeCensus(ctx, l.Kelp, "true")
	if err != nil {
		return usage{}, err
	}
	s, err := l.Status(ctx)
	if err != nil {
		return usage{}, err
	}
	u := usage{census, map[string]int{}}
	for who, pid := range map[string]int{"keeper": s.KeeperPID, "engine": s.EnginePID} {
		mib, err := harness.PSS([]harness.Process{{PID: pid}})
		if err != nil {
			return u, err
		}
		u.memory[who] = int(mib)
	}
	for what, dir := range map[string]string{"records": l.DataRoot, "states": filepath.Join(l.RuntimeDir, "kelp")} {
		left, err := os.ReadDir(filepath.Join(dir, "containers"))
		if err != nil {
			return u, err
		}
		u.Census[what+" of containers"] = len(left)
	}
	return u, nil
}

// settles waits until nothing is left of the work. Threads stay: Go's own, and
// the keeper's that start processes (a goroutine each), as many as clients were
// served at the same time.
func (l *load) settles(t *testing.T, before usage) {
	t.Helper()
	allowed := maps.Clone(before.Census)
	for _, kind := range []string{"keeper's threads", "keeper's goroutines", "engine's threads"} {
		allowed[kind] += clients
	}
	var now usage
	must(t, harness.Until(t.Context(), time.Minute, "nothing is left of the work", func() (err error) {
		if now, err = l.takeUsage(t.Context()); err != nil {
			return err
		}
		for who, mib := range now.memory {
			if had := before.memory[who]; mib > had+grows[who] {
				return fmt.Errorf("the %s has %d MiB, before %d", who, mib, had)
			}
		}
		return now.Grown(allowed)
	}))
	t.Logf("MiB %v, before %v", now.memory, before.memory)
}
