package runtime

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/cgroups"
	"golang.org/x/sys/unix"

	"github.com/kelp-engine/kelp/engine/keeper"
	"github.com/kelp-engine/kelp/userns/procstat"
)

// Stats returns what the container uses.
func (c *Container) Stats() (keeper.Stats, error) {
	s := keeper.Stats{Read: time.Now()}
	machine(&s)
	var err error
	if c.cgroup {
		err = c.cgroupStats(&s)
	} else {
		err = c.processStats(&s)
	}
	if err != nil {
		return s, fmt.Errorf("cannot read the container's usage: %w", err)
	}
	if namespace(c.init.PID, "net") != namespace(os.Getpid(), "net") {
		s.Network, err = networkStats(c.init.PID)
	}
	return s, err
}

// cgroupStats reads what the kernel counted for the container's cgroup.
func (c *Container) cgroupStats(s *keeper.Stats) error {
	all, err := c.c.Stats()
	if err != nil {
		return err
	}
	s.Cgroup = true
	from := all.CgroupStats
	cpu, limit := from.CpuStats, from.CpuStats.ThrottlingData
	s.CPU.Total, s.CPU.User, s.CPU.Kernel = cpu.CpuUsage.TotalUsage, cpu.CpuUsage.UsageInUsermode, cpu.CpuUsage.UsageInKernelmode
	s.CPU.Periods, s.CPU.ThrottledPeriods, s.CPU.Throttled = limit.Periods, limit.ThrottledPeriods, limit.ThrottledTime
	memory := from.MemoryStats
	s.Memory.Usage, s.Memory.Max, s.Memory.Failed = memory.Usage.Usage, memory.Usage.MaxUsage, memory.Usage.Failcnt
	if memory.Usage.Limit < s.Memory.Machine {
		s.Memory.Limit = memory.Usage.Limit
	}
	s.Memory.Details = memory.Stats
	s.PIDs.Current, s.PIDs.Limit = from.PidsStats.Current, from.PidsStats.Limit
	s.IO = deviceStats(from.BlkioStats)
	if memory.Usage.Usage > 0 && s.PIDs.Current > 0 {
		return nil
	}
	// A cgroup without these controllers counts processor time only.
	var p keeper.Stats
	if err := c.processStats(&p); err != nil {
		return err
	}
	if memory.Usage.Usage == 0 {
		s.Memory.Usage = p.Memory.Usage
	}
	if s.PIDs.Current == 0 {
		s.PIDs.Current = p.PIDs.Current
	}
	if s.IO == nil {
		s.IO = p.IO
	}
	return nil
}

func deviceStats(from cgroups.BlkioStats) []keeper.IOStats {
	var list []keeper.IOStats
	device := func(e cgroups.BlkioStatEntry) *keeper.IOStats {
		for i := range list {
			if list[i].Major == e.Major && list[i].Minor == e.Minor {
				return &list[i]
			}
		}
		list = append(list, keeper.IOStats{Major: e.Major, Minor: e.Minor})
		return &list[len(list)-1]
	}
	for _, e := range from.IoServiceBytesRecursive {
		switch strings.ToLower(e.Op) {
		case "read":
			device(e).ReadBytes = e.Value
		case "write":
			device(e).WriteBytes = e.Value
		}
	}
	for _, e := range from.IoServicedRecursive {
		switch strings.ToLower(e.Op) {
		case "read":
			device(e).ReadOps = e.Value
		case "write":
			device(e).WriteOps = e.Value
		}
	}
	return list
}

// processStats adds up the container's processes. A process's times include
// those of the children it has waited for, so that the sum does not fall when
// processes end.
func (c *Container) processStats(s *keeper.Stats) error {
	members, err := c.members()
	if err != nil {
		return err
	}
	var io keeper.IOStats
	var user, kernel uint64
	for _, m := range members {
		user += m.User + m.UserReaped
		kernel += m.System + m.SystemReaped
		s.PIDs.Current += uint64(m.Threads)
		s.Memory.Usage += memoryOf(m.Stat)
		addIO(&io, m.PID)
	}
	u := c.usage.raise(usage{
		user: c.spent.user.Load() + user*tick, kernel: c.spent.kernel.Load() + kernel*tick,
		readBytes: io.ReadBytes, writeBytes: io.WriteBytes, readOps: io.ReadOps, writeOps: io.WriteOps,
	})
	s.CPU.User, s.CPU.Kernel = u.user, u.kernel
	s.CPU.Total = u.user + u.kernel
	s.IO = []keeper.IOStats{{ReadBytes: u.readBytes, WriteBytes: u.writeBytes, ReadOps: u.readOps, WriteOps: u.writeOps}}
	return nil
}

// tick is a clock tick of /proc in nanoseconds.
const tick = uint64(time.Second / procstat.TicksPerSecond)

// memoryOf returns a process's memory, shared pages divided among those that
// share them where the kernel tells, else its resident set.
func memoryOf(s procstat.Stat) uint64 {
	if pss, ok := keyed("/proc/"+strconv.Itoa(s.PID)+"/smaps_rollup", "Pss:"); ok {
		return pss << 10
	}
	return s.ResidentPages * uint64(os.Getpagesize())
}

// addIO adds what a process read from and wrote to block devices.
func addIO(io *keeper.IOStats, pid int) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/io")
	if err != nil {
		return
	}
	for line := range bytes.Lines(b) {
		name, value, _ := bytes.Cut(bytes.TrimSpace(line), []byte(": "))
		n, _ := strconv.ParseUint(string(value), 10, 64)
		switch string(name) {
		case "read_bytes":
			io.ReadBytes += n
		case "write_bytes":
			io.WriteBytes += n
		case "syscr":
			io.ReadOps += n
		case "syscw":
			io.WriteOps += n
		}
	}
}

// keyed returns the number behind a key in a file of lines "key: number kB".
func keyed(path, key string) (uint64, bool) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, false
	}
	for line := range bytes.Lines(b) {
		fields := bytes.Fields(line)
		if len(fields) > 1 && string(fields[0]) == key {
			n, err := strconv.ParseUint(string(fields[1]), 10, 64)
			return n, err == nil
		}
	}
	return 0, false
}

// machine fills in what the whole machine has.
func machine(s *keeper.Stats) {
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) == nil {
		s.Memory.Machine = info.Totalram * uint64(info.Unit)
	}
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return
	}
	for line := range bytes.Lines(b) {
		fields := bytes.Fields(line)
		switch {
		case len(fields) < 9 || !bytes.HasPrefix(fields[0], []byte("cpu")):
		case len(fields[0]) > 3:
			s.CPU.Online++
		default: // guest time, behind the eighth, is in user time already
			for _, f := range fields[1:9] {
				n, _ := strconv.ParseUint(string(f), 10, 64)
				s.CPU.Machine += n * tick
			}
		}
	}
}

// networkStats reads the interfaces of a process's network namespace but its
// loopback.
func networkStats(pid int) ([]keeper.Interface, error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/net/dev")
	if err != nil {
		return nil, fmt.Errorf("cannot read the container's network counters: %w", err)
	}
	var list []keeper.Interface
	for line := range strings.Lines(string(b)) {
		name, counters, ok := strings.Cut(strings.TrimSpace(line), ":")
		fields := strings.Fields(counters)
		if !ok || name == "lo" || len(fields) < 16 {
			continue
		}
		n := make([]uint64, len(fields))
		for i, f := range fields {
			n[i], _ = strconv.ParseUint(f, 10, 64)
		}
		list = append(list, keeper.Interface{
			Name: name, RxBytes: n[0], RxPackets: n[1], RxErrors: n[2], RxDropped: n[3],
			TxBytes: n[8], TxPackets: n[9], TxErrors: n[10], TxDropped: n[11],
		})
	}
	return list, nil
}
