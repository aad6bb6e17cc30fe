package keeper

import (
	"context"
	"time"
)

// Stats is what a running container uses, all of it counted since its start
// unless said otherwise. Times are in nanoseconds, memory in bytes.
type Stats struct {
	Read time.Time `json:"read"`
	// Cgroup says that the kernel counted. Without a cgroup the container's
	// processes are added up: memory shared between them is divided, and what
	// processes did that ended unnoticed is missing.
	Cgroup  bool        `json:"cgroup,omitempty"`
	CPU     CPUStats    `json:"cpu"`
	Memory  Memory      `json:"memory"`
	PIDs    PIDs        `json:"pids"`
	IO      []IOStats   `json:"io,omitempty"`
	Network []Interface `json:"network,omitempty"`
}

// CPUStats are a container's and the whole machine's processor times.
type CPUStats struct {
	Total  uint64 `json:"total"`
	User   uint64 `json:"user"`
	Kernel uint64 `json:"kernel"`
	// Machine is the time of all processors, idle ones included.
	Machine uint64 `json:"machine"`
	Online  int    `json:"online"` // processors
	// Periods of a limit on the container's time: all, and those in which it
	// had to wait, and for how long.
	Periods          uint64 `json:"periods,omitempty"`
	ThrottledPeriods uint64 `json:"throttled_periods,omitempty"`
	Throttled        uint64 `json:"throttled,omitempty"`
}

// Memory is what a container uses now.
type Memory struct {
	Usage   uint64 `json:"usage"`
	Max     uint64 `json:"max,omitempty"`   // the most that was used; 0 is unknown
	Limit   uint64 `json:"limit,omitempty"` // 0 is none
	Failed  uint64 `json:"failed,omitempty"`
	Machine uint64 `json:"machine"` // the machine's memory
	// Details are cgroup v2's memory.stat.
	Details map[string]uint64 `json:"details,omitempty"`
}

// PIDs counts processes, threads included, now.
type PIDs struct {
	Current uint64 `json:"current"`
	Limit   uint64 `json:"limit,omitempty"` // 0 is none
}

// IOStats are a block device's; without a cgroup there is one for all devices,
// whose numbers are 0.
type IOStats struct {
	Major      uint64 `json:"major"`
	Minor      uint64 `json:"minor"`
	ReadBytes  uint64 `json:"read_bytes"`
	WriteBytes uint64 `json:"write_bytes"`
	ReadOps    uint64 `json:"read_ops"`
	WriteOps   uint64 `json:"write_ops"`
}

// Interface is a network interface of a container that has its own network namespace.
type Interface struct {
	Name      string `json:"name"`
	RxBytes   uint64 `json:"rx_bytes"`
	RxPackets uint64 `json:"rx_packets"`
	RxErrors  uint64 `json:"rx_errors"`
	RxDropped uint64 `json:"rx_dropped"`
	TxBytes   uint64 `json:"tx_bytes"`
	TxPackets uint64 `json:"tx_packets"`
	TxErrors  uint64 `json:"tx_errors"`
	TxDropped uint64 `json:"tx_dropped"`
}

// Stats returns what a running container uses.
func (c *Client) Stats(ctx context.Context, id string) (Stats, error) {
	var s Stats
	err := c.call(ctx, "stats", Ref{Container: id}, &s)
	return s, err
}
