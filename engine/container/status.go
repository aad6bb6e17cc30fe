package container

import (
	"fmt"
	"time"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/container"
)

// status is the state in words, as `docker ps` prints it.
func (r *Record) status(now time.Time) string {
	switch r.apiState() {
	case container.StateRunning:
		up := "Up " + units.HumanDuration(now.Sub(r.StartedAt))
		switch {
		case r.Health == nil:
			return up
		case r.Health.Status == container.Starting:
			return up + " (health: starting)"
		default:
			return fmt.Sprintf("%s (%s)", up, r.Health.Status)
		}
	case container.StatePaused:
		return fmt.Sprintf("Up %s (Paused)", units.HumanDuration(now.Sub(r.StartedAt)))
	case container.StateRestarting:
		return fmt.Sprintf("Restarting (%d) %s ago", r.ExitCode, units.HumanDuration(now.Sub(r.FinishedAt)))
	case container.StateRemoving:
		return "Removal In Progress"
	case container.StateDead:
		return "Dead"
	case container.StateExited:
		return fmt.Sprintf("Exited (%d) %s ago", r.ExitCode, units.HumanDuration(now.Sub(r.FinishedAt)))
	default:
		return "Created"
	}
}

// zeroTime is how Docker writes a time that there is none of.
const zeroTime = "0001-01-01T00:00:00Z"

func timeText(t time.Time) string {
	if t.IsZero() {
		return zeroTime
	}
	return t.UTC().Format(time.RFC3339Nano)
}

// inspectState is the state as inspect shows it.
func (r *Record) inspectState() *container.State {
	status := r.apiState()
	restarting := status == container.StateRestarting
	s := &container.State{
		Status:     status,
		Running:    r.State.Running() || restarting,
		Paused:     r.State == Paused,
		Restarting: restarting,
		OOMKilled:  r.OOMKilled,
		Dead:       r.State == Dead,
		ExitCode:   r.ExitCode,
		Error:      r.Error,
		StartedAt:  timeText(r.StartedAt),
		FinishedAt: timeText(r.FinishedAt),
		Health:     r.Health,
	}
	if r.State.Running() {
		s.Pid = r.Process.PID
	}
	return s
}
