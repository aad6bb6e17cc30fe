package container

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"

	"github.com/kelp-engine/kelp/engine/fault"
)

// What a health check has when neither image nor client say, and how many
// results are kept.
const (
	healthInterval      = 30 * time.Second
	healthTimeout       = 30 * time.Second
	healthStartInterval = 5 * time.Second
	healthRetries       = 3
	healthLog           = 5
)

// checkHealth refuses what cannot be a health check.
func checkHealth(h *container.HealthConfig) error {
	if h == nil {
		return nil
	}
	if len(h.Test) > 0 {
		switch h.Test[0] {
		case "NONE", "CMD-SHELL":
		case "CMD":
			if len(h.Test) == 1 {
				return fault.InvalidArgument("Healthcheck.Test: CMD needs a command")
			}
		default:
			return fault.InvalidArgument("Unknown healthcheck type '%s' (expected 'CMD', 'CMD-SHELL' or 'NONE')", h.Test[0])
		}
	}
	for _, d := range []struct {
		name  string
		value time.Duration
	}{
		{"Interval", h.Interval},
		{"Timeout", h.Timeout},
		{"StartPeriod", h.StartPeriod},
		{"StartInterval", h.StartInterval},
	} {
		if d.value != 0 && d.value < container.MinimumDuration {
			return fault.InvalidArgument("%s in Healthcheck cannot be less than %s", d.name, container.MinimumDuration)
		}
	}
	if h.Retries < 0 {
		return fault.InvalidArgument("Retries in Healthcheck cannot be negative")
	}
	return nil
}

// healthCommand is what a health check runs; nil is none.
func healthCommand(c *container.Config) []string {
	if c.Healthcheck == nil || len(c.Healthcheck.Test) < 2 {
		return nil
	}
	test := c.Healthcheck.Test
	switch test[0] {
	case "CMD":
		return test[1:]
	case "CMD-SHELL":
		shell := c.Shell
		if len(shell) == 0 {
			shell = []string{"/bin/sh", "-c"}
		}
		return append(append([]string(nil), shell...), test[1])
	default:
		return nil
	}
}

// initialHealth is the health of a container that has just started.
func initialHealth(c *container.Config) *container.Health {
	if healthCommand(c) == nil {
		return nil
	}
	return &container.Health{Status: container.Starting, Log: []*container.HealthcheckResult{}}
}

// endedHealth is the health of a container that does not run any more.
func endedHealth(h *container.Health) *container.Health {
	if h == nil {
		return nil
	}
	ended := *h
	ended.Status = container.Unhealthy
	return &ended
}

// monitor checks the health of one running container.
type monitor struct {
	cancel context.CancelFunc
	done   chan struct{}
}

// watchHealth begins to check the container's health, if it has a check.
func (m *runner) watchHealth(c *Container) {
	if healthCommand(c.Snapshot().Config) == nil {
		return
	}
	c.stopHealth()
	ctx, cancel := context.WithCancel(context.Background())
	mon := &monitor{cancel: cancel, done: make(chan struct{})}
	c.mu.Lock()
	c.health = mon
	c.mu.Unlock()
	m.bg.run(func(life context.Context) {
		defer close(mon.done)
		defer cancel()
		defer context.AfterFunc(life, cancel)()
		m.checkForever(ctx, c)
	})
}

// stopHealth ends the checks and waits for the one under way.
func (c *Container) stopHealth() {
	c.mu.Lock()
	mon := c.health
	c.health = nil
	c.mu.Unlock()
	if mon != nil {
		mon.cancel()
		<-mon.done
	}
}

// checkForever checks at every interval until ctx ends.
func (m *runner) checkForever(ctx context.Context, c *Container) {
	timer := time.NewTimer(c.Snapshot().healthWait())
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		result := m.probes.run(ctx, c.Snapshot())
		if ctx.Err() != nil {
			return
		}
		if err := m.healthResult(c, result); err != nil {
			slog.Error("cannot keep the result of a health check", "container", c.id, "error", err)
		}
		timer.Reset(c.Snapshot().healthWait())
	}
}

// healthWait is the time to the next check.
func (r *Record) healthWait() time.Duration {
	h := r.Config.Healthcheck
	if r.Health != nil && r.Health.Status == container.Starting && time.Since(r.StartedAt) < h.StartPeriod {
		return orElse(h.StartInterval, healthStartInterval)
	}
	return orElse(h.Interval, healthInterval)
}

func orElse[T int | time.Duration](v, absent T) T {
	if v == 0 {
		return absent
	}
	return v
}

// healthResult counts a check's result and tells when the status changes.
func (m *runner) healthResult(c *Container, result *container.HealthcheckResult) error {
	before := c.Snapshot().Health
	err := m.change(c, process, func(r *Record) { r.Health = nextHealth(r, result) })
	if err != nil {
		return err
	}
	r := c.Snapshot()
	if before == nil || r.Health.Status != before.Status {
		m.publish(r, events.Action(fmt.Sprintf("%s: %s", events.ActionHealthStatus, r.Health.Status)))
	}
	return nil
}

// nextHealth is the container's health after a check. While it starts up,
// failures do not count.
func nextHealth(r *Record, result *container.HealthcheckResult) *container.Health {
	next := container.Health{Status: container.Starting}
	if r.Health != nil {
		next = *r.Health
	}
	old := next.Log
	next.Log = append([]*container.HealthcheckResult(nil), old[max(0, len(old)-healthLog+1):]...)
	next.Log = append(next.Log, result)
	cfg := r.Config.Healthcheck
	switch {
	case result.ExitCode == 0:
		next.FailingStreak, next.Status = 0, container.Healthy
	case next.Status == container.Starting && result.Start.Sub(r.StartedAt) < cfg.StartPeriod:
	default:
		next.FailingStreak++
		if next.FailingStreak >= orElse(cfg.Retries, healthRetries) {
			next.Status = container.Unhealthy
		}
	}
	return &next
}
