package container

import (
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"

	"github.com/kelp-engine/kelp/engine/events"
	"github.com/kelp-engine/kelp/engine/filter"
)

func TestHealthCheck(t *testing.T) {
	w := newWorld(t)
	m := w.manager(true)
	var code atomic.Int32
	w.keeper.probe = func(out *os.File) int {
		fmt.Fprint(out, strings.Repeat("x", maxProbeOutput+1))
		return int(code.Load())
	}
	sub := w.events.Subscribe(events.Query{Filter: filter.Args{"event": {"health_status"}}})
	defer sub.Close()
	w.create(m, "c1", func(r *container.CreateRequest) {
		r.Healthcheck = &container.HealthConfig{Test: []string{"CMD-SHELL", "true"}, Interval: 5 * time.Millisecond, Retries: 2}
	})
	w.check(m.Start(t.Context(), "c1"))
	next := func() string {
		e, _, err := sub.Next(t.Context())
		w.check(err)
		return string(e.Action)
	}
	if got := next(); got != "health_status: healthy" {
		t.Errorf("first %s", got)
	}
	code.Store(1)
	if got := next(); got != "health_status: unhealthy" {
		t.Errorf("then %s", got)
	}
	c, err := m.Find("c1")
	w.check(err)
	h := c.Snapshot().Health
	if h.FailingStreak < 2 || len(h.Log) > healthLog || len(h.Log[len(h.Log)-1].Output) != maxProbeOutput+3 {
		t.Errorf("%+v", h)
	}
	// The next engine takes it up as it was.
	w.check(m.Close())
	m = w.manager(false)
	c, err = m.Find("c1")
	w.check(err)
	if got := c.Snapshot().Health.Status; got != container.Unhealthy {
		t.Errorf("after a restart of the engine: %s", got)
	}
	code.Store(0)
	if got := next(); got != "health_status: healthy" {
		t.Errorf("at last %s", got)
	}
	w.check(m.Stop(t.Context(), "c1", StopOptions{}))
	if len(w.keeper.tasks) != 0 {
		t.Errorf("the keeper still knows %v", w.keeper.tasks)
	}
}

func TestHealthCheckThatHangs(t *testing.T) {
	w := newWorld(t)
	m := w.manager(true)
	hang := make(chan struct{})
	defer close(hang)
	w.keeper.probe = func(*os.File) int { <-hang; return 0 }
	w.create(m, "c1", func(r *container.CreateRequest) {
		r.Healthcheck = &container.HealthConfig{Test: []string{"CMD", "x"}, Interval: 5 * time.Millisecond, Timeout: 10 * time.Millisecond, Retries: 1}
	})
	w.check(m.Start(t.Context(), "c1"))
	c, err := m.Find("c1")
	w.check(err)
	for c.Snapshot().Health.Status != container.Unhealthy {
		time.Sleep(time.Millisecond)
	}
	r := c.Snapshot().Health.Log[0]
	if r.ExitCode != -1 || r.Output != "Health check exceeded timeout (10ms)" {
		t.Errorf("%+v", r)
	}
}

func TestNextHealth(t *testing.T) {
	start := time.Now()
	r := &Record{StartedAt: start, Config: &container.Config{Healthcheck: &container.HealthConfig{StartPeriod: time.Minute, Retries: 2}}}
	at := func(after time.Duration, code int) {
		r.Health = nextHealth(r, &container.HealthcheckResult{Start: start.Add(after), ExitCode: code})
	}
	for i, tt := range []struct {
		after  time.Duration
		code   int
		status container.HealthStatus
		streak int
	}{
		{time.Second, 1, container.Starting, 0}, // does not count yet
		{2 * time.Minute, 1, container.Starting, 1},
		{3 * time.Minute, 0, container.Healthy, 0},
		{4 * time.Minute, 1, container.Healthy, 1},
		{5 * time.Minute, 2, container.Unhealthy, 2},
		{6 * time.Minute, 1, container.Unhealthy, 3},
		{7 * time.Minute, 0, container.Healthy, 0},
	} {
		at(tt.after, tt.code)
		if r.Health.Status != tt.status || r.Health.FailingStreak != tt.streak || len(r.Health.Log) != min(i+1, healthLog) {
			t.Errorf("check %d: %s, streak %d, %d results", i, r.Health.Status, r.Health.FailingStreak, len(r.Health.Log))
		}
	}
}
