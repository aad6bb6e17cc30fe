// Package container owns containers: their records, names and states, and the
// operations that move them from one state to the next.
//
// It must not run processes (the keeper does), make file systems or networks
// (it asks for them through the interfaces of ports.go), or know HTTP.
package container

import (
	"net/netip"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"

	"github.com/kelp-engine/kelp/engine/keeper"
	"github.com/kelp-engine/kelp/engine/mounts"
)

// State of a container. Those that are not Docker's are on the way between
// two that are; Recover resolves them when the engine died there.
type State string

// States.
const (
	Creating   State = "creating" // not yet visible
	Created    State = "created"
	Starting   State = "starting"
	Running    State = "running"
	Paused     State = "paused"
	Stopping   State = "stopping"   // running, its end is being waited for
	Restarting State = "restarting" // ended, to be started again
	Exited     State = "exited"
	Removing   State = "removing"
	Dead       State = "dead" // could not be removed whole
)

// Running says whether the container has a live process.
func (s State) Running() bool { return s == Running || s == Paused || s == Stopping }

// atRest says whether nothing runs, nor will without being asked.
func (s State) atRest() bool {
	return s == Created || s == Exited || s == Removing || s == Dead
}

// Record is all that is known of a container, as it lies on disk. A Record
// that others can see is never changed: changes make a new one.
type Record struct {
	ID   string `json:"id"`
	Name string `json:"name"` // without Docker's leading slash
	// FormerName is what links may still call the container; it stays taken.
	FormerName string    `json:"former_name,omitempty"`
	Created    time.Time `json:"created"`
	// Image is the image's Id; Config.Image is what the client called it.
	Image string `json:"image"`
	// Config is the client's merged with the image's.
	Config     *container.Config     `json:"config"`
	HostConfig *container.HostConfig `json:"host_config"`
	// Networks are the endpoints that the client asked for at create.
	Networks map[string]*network.EndpointSettings `json:"networks,omitempty"`
	// Addresses, by network id, and HostPorts are what the networks gave the
	// container when it last ran.
	Addresses map[string][]netip.Addr `json:"addresses,omitempty"`
	HostPorts []keeper.Port           `json:"host_ports,omitempty"`
	Mounts    []mounts.Point          `json:"mounts,omitempty"`

	State State `json:"state"`
	// StoppedByUser keeps the restart policy from starting the container.
	StoppedByUser bool `json:"stopped_by_user,omitempty"`
	// StartAgain says that a client's restart is under way: what ended is to be
	// started, by the next engine if need be.
	StartAgain bool `json:"start_again,omitempty"`
	// Ending is how the process is being ended for a client; nil when it is not.
	Ending *Ending `json:"ending,omitempty"`
	// Process is the live one, or the last one.
	Process      keeper.Started `json:"process,omitzero"`
	StartedAt    time.Time      `json:"started_at,omitzero"`
	FinishedAt   time.Time      `json:"finished_at,omitzero"`
	ExitCode     int            `json:"exit_code,omitempty"`
	OOMKilled    bool           `json:"oom_killed,omitempty"`
	Error        string         `json:"error,omitempty"`
	RestartCount int            `json:"restart_count,omitempty"`
	// Rests counts how often the container came to rest, for those that wait
	// for its next exit.
	Rests  uint64            `json:"rests,omitempty"`
	Health *container.Health `json:"health,omitempty"`
}

// same is the state that the container is in when a change is made.
const same State = ""

// enter changes the state.
func (r *Record) enter(to State, edit func(*Record)) {
	if to == same {
		to = r.State
	}
	if to.atRest() && !r.State.atRest() {
		r.Rests++
	}
	r.State = to
	if edit != nil {
		edit(r)
	}
}

// apiState is the state as Docker's clients know it.
func (r *Record) apiState() container.ContainerState {
	switch r.State {
	case Creating:
		return container.StateCreated
	case Starting:
		if r.RestartCount > 0 { // by its restart policy: a user's start begins from 0
			return container.StateRestarting
		}
		return container.ContainerState(r.resting())
	case Stopping:
		return container.StateRunning
	default:
		return container.ContainerState(r.State)
	}
}

// resting is the state of a container that does not run: Created until it has
// run once.
func (r *Record) resting() State {
	if r.StartedAt.IsZero() {
		return Created
	}
	return Exited
}

// restarts says whether the container has a restart policy.
func (r *Record) restarts() bool { return !r.HostConfig.RestartPolicy.IsNone() }

// durability says what a saved change has to outlive.
type durability bool

const (
	// process: a power cut ends every process, and with it the truth of the
	// states that depend on one. Recover sets a container whose process is
	// gone to rest whatever its record says, so waiting for the disk on each
	// start and exit would buy nothing.
	process durability = false
	// power: what the user was told to be so, and what the next boot acts on:
	// that the container is there, its name and configuration, and, where
	// there is a restart policy, whether it is wanted to run.
	power durability = true
)

// wantedToRun is the durability of a change to what the restart policy will
// do after a power cut.
func (r *Record) wantedToRun() durability { return durability(r.restarts()) }

// kept is the durability of the container itself. One that is removed when it
// ends does not outlive a power cut: it is no loss when its record does not.
func (r *Record) kept() durability { return durability(!r.HostConfig.AutoRemove) }

// Ending is a stop under way.
type Ending struct {
	Signal int       `json:"signal"`
	KillAt time.Time `json:"kill_at,omitzero"` // zero is never
}

func newEnding(signal int, timeout time.Duration) *Ending {
	e := &Ending{Signal: signal}
	if timeout >= 0 {
		e.KillAt = time.Now().Add(timeout).UTC()
	}
	return e
}

// left is the time until the process is killed; below 0 is never.
func (e *Ending) left() time.Duration {
	if e.KillAt.IsZero() {
		return -1
	}
	return max(0, time.Until(e.KillAt))
}
