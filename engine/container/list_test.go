package container

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"

	"github.com/kelp-engine/kelp/engine/filter"
	"github.com/kelp-engine/kelp/engine/keeper"
	"github.com/kelp-engine/kelp/engine/mounts"
)

func TestListFilters(t *testing.T) {
	w := newWorld(t)
	m := w.manager(true)
	for _, name := range []string{"old", "web", "db"} { // db is the newest
		id := w.create(m, name, func(r *container.CreateRequest) { r.Labels = map[string]string{"name": name} })
		time.Sleep(2 * time.Millisecond)
		switch name {
		case "web":
			w.check(m.Start(t.Context(), name))
		case "old":
			w.check(m.Start(t.Context(), name))
			w.keeper.exit(keeper.Ref{Container: id}, 3)
			w.await(m, name, Exited)
		}
	}
	db, err := m.Find("db")
	w.check(err)
	w.check(m.change(db, process, func(r *Record) {
		r.Mounts = []mounts.Point{{Type: "volume", Name: "vol", Target: "/data"}}
	}))
	all := func(key string, values ...string) ListOptions {
		return ListOptions{All: true, Filter: filter.Args{key: values}}
	}
	for _, tt := range []struct {
		name string
		o    ListOptions
		want []string
	}{
		{"running", ListOptions{}, []string{"web"}},
		{"all", ListOptions{All: true}, []string{"db", "web", "old"}},
		{"limit", ListOptions{Limit: 2}, []string{"db", "web"}},
		{"limit 1 of old ones", ListOptions{Limit: 1, Filter: filter.Args{"before": {"web"}}}, []string{"old"}},
		{"status implies all", ListOptions{Filter: filter.Args{"status": {"exited", "created"}}}, []string{"db", "old"}},
		{"name", all("name", "^/?we"), []string{"web"}},
		{"id", all("id", db.id[:10]), []string{"db"}},
		{"label", all("label", "name=old"), []string{"old"}},
		{"label of the image", all("label", "from"), []string{"db", "web", "old"}},
		{"two labels", all("label", "name=old", "from=shop"), nil},
		{"exited", all("exited", "3"), []string{"old"}},
		{"exited otherwise", all("exited", "0"), nil},
		{"since", all("since", "old"), []string{"db", "web"}},
		{"before", all("before", "db"), []string{"web", "old"}},
		{"ancestor by name", all("ancestor", "busybox"), []string{"db", "web", "old"}},
		{"ancestor by id", all("ancestor", busyboxID), []string{"db", "web", "old"}},
		{"another ancestor", all("ancestor", "alpine"), nil},
		{"volume by name", all("volume", "vol"), []string{"db"}},
		{"volume by target", all("volume", "/data"), []string{"db"}},
		{"network", all("network", "none"), []string{"db", "web", "old"}},
		{"another network", all("network", "bridge"), nil},
		{"exposed", all("expose", "79-81"), []string{"db", "web", "old"}},
		{"exposed by another protocol", all("expose", "80/udp"), nil},
		{"published", all("publish", "80"), nil},
		{"no health check", all("health", "none"), []string{"db", "web", "old"}},
		{"healthy", all("health", "healthy"), nil},
		{"task", all("is-task", "true"), nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			rows, err := m.List(t.Context(), tt.o)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, r := range rows {
				got = append(got, r.Names[0][1:])
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("%v, want %v", got, tt.want)
			}
		})
	}
	for key, value := range map[string]string{"status": "asleep", "health": "ill", "exited": "x", "expose": "80-79", "is-task": "perhaps"} {
		if _, err := m.List(t.Context(), all(key, value)); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%s=%s: %v", key, value, err)
		}
	}
	if _, err := m.List(t.Context(), all("before", "nobody")); !errdefs.IsNotFound(err) {
		t.Errorf("before a container that is not there: %v", err)
	}
}

func TestStatusText(t *testing.T) {
	now := time.Now()
	for _, tt := range []struct {
		r    Record
		want string
	}{
		{Record{State: Created}, "Created"},
		{Record{State: Running, StartedAt: now.Add(-time.Hour)}, "Up About an hour"},
		{Record{State: Stopping, StartedAt: now.Add(-time.Minute)}, "Up About a minute"},
		{Record{State: Paused, StartedAt: now.Add(-2 * time.Hour)}, "Up 2 hours (Paused)"},
		{Record{State: Running, StartedAt: now.Add(-time.Hour), Health: &container.Health{Status: "starting"}}, "Up About an hour (health: starting)"},
		{Record{State: Running, StartedAt: now.Add(-time.Hour), Health: &container.Health{Status: "healthy"}}, "Up About an hour (healthy)"},
		{Record{State: Restarting, ExitCode: 1, StartedAt: now, FinishedAt: now.Add(-5 * time.Second)}, "Restarting (1) 5 seconds ago"},
		{Record{State: Exited, ExitCode: 137, StartedAt: now, FinishedAt: now.Add(-48 * time.Hour)}, "Exited (137) 2 days ago"},
		{Record{State: Removing}, "Removal In Progress"},
		{Record{State: Dead}, "Dead"},
		{Record{State: Starting, StartedAt: now, FinishedAt: now.Add(-5 * time.Second)}, "Exited (0) 5 seconds ago"},
	} {
		if got := tt.r.status(now); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.r.State, got, tt.want)
		}
	}
}

// BenchmarkList1000 is GET /containers/json without HTTP: 1,000 containers
// have to take less than 10 ms.
func BenchmarkList1000(b *testing.B) {
	m, err := New(Options{Dir: b.TempDir(), Images: &fakeStore{}, Networks: noNets{}})
	if err != nil {
		b.Fatal(err)
	}
	for i := range 1000 {
		m.add(newContainer(&Record{
			ID: newID(), Name: fmt.Sprintf("c%d", i), Image: busyboxID, State: Running, StartedAt: time.Now(),
			Config:     &container.Config{Image: "busybox", Cmd: []string{"sleep", "1000"}, Labels: map[string]string{"a": "b"}},
			HostConfig: &container.HostConfig{NetworkMode: "none"},
		}))
	}
	for b.Loop() {
		rows, err := m.List(b.Context(), ListOptions{All: true})
		if err != nil || len(rows) != 1000 {
			b.Fatal(err)
		}
		if _, err := json.Marshal(rows); err != nil {
			b.Fatal(err)
		}
	}
}
