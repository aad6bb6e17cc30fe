package spec

import (
	"math"

	"github.com/moby/moby/api/types/blkiodev"
	"github.com/moby/moby/api/types/container"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// cpuPeriod is the scheduler's default period, in microseconds.
const cpuPeriod = 100_000

// Resources are the limits that the host can apply; Validate has warned about
// the others.
func Resources(r container.Resources, h Host) *specs.LinuxResources {
	out := &specs.LinuxResources{
		// kelp may set no device rules; what a container can open is decided
		// by the files in its /dev.
		Devices: []specs.LinuxDeviceCgroup{{Allow: true, Access: "rwm"}},
	}
	if h.Controllers["memory"] {
		out.Memory = memory(r)
	}
	if h.Controllers["cpu"] || h.Controllers["cpuset"] {
		out.CPU = cpu(r, h)
	}
	if h.Controllers["pids"] && r.PidsLimit != nil && *r.PidsLimit != 0 {
		out.Pids = &specs.LinuxPids{Limit: r.PidsLimit}
	}
	if h.Controllers["io"] {
		out.BlockIO = blockIO(r)
	}
	return out
}

func memory(r container.Resources) *specs.LinuxMemory {
	var m specs.LinuxMemory
	if r.Memory > 0 {
		m.Limit = &r.Memory
		if swap := r.MemorySwap; swap != 0 {
			m.Swap = &swap
		} else {
			twice := 2 * min(r.Memory, math.MaxInt64/2) // as much swap again, as Docker has it
			m.Swap = &twice
		}
	}
	if r.MemoryReservation > 0 {
		m.Reservation = &r.MemoryReservation
	}
	if m == (specs.LinuxMemory{}) {
		return nil
	}
	return &m
}

func cpu(r container.Resources, h Host) *specs.LinuxCPU {
	var c specs.LinuxCPU
	if h.Controllers["cpu"] {
		if r.CPUShares > 0 {
			shares := uint64(r.CPUShares)
			c.Shares = &shares
		}
		period, quota := uint64(r.CPUPeriod), r.CPUQuota
		if r.NanoCPUs > 0 {
			period = cpuPeriod
			quota = r.NanoCPUs * cpuPeriod / 1e9
		}
		if quota != 0 {
			c.Quota = &quota
		}
		if period > 0 {
			c.Period = &period
		}
	}
	if h.Controllers["cpuset"] {
		c.Cpus, c.Mems = r.CpusetCpus, r.CpusetMems
	}
	if c == (specs.LinuxCPU{}) {
		return nil
	}
	return &c
}

func blockIO(r container.Resources) *specs.LinuxBlockIO {
	b := &specs.LinuxBlockIO{
		ThrottleReadBpsDevice:   throttles(r.BlkioDeviceReadBps),
		ThrottleWriteBpsDevice:  throttles(r.BlkioDeviceWriteBps),
		ThrottleReadIOPSDevice:  throttles(r.BlkioDeviceReadIOps),
		ThrottleWriteIOPSDevice: throttles(r.BlkioDeviceWriteIOps),
	}
	if r.BlkioWeight > 0 {
		b.Weight = &r.BlkioWeight
	}
	for _, d := range r.BlkioWeightDevice {
		if major, minor, ok := deviceNumber(d.Path); ok {
			w := specs.LinuxWeightDevice{Weight: &d.Weight}
			w.Major, w.Minor = major, minor
			b.WeightDevice = append(b.WeightDevice, w)
		}
	}
	return b
}

func throttles(list []*blkiodev.ThrottleDevice) []specs.LinuxThrottleDevice {
	var out []specs.LinuxThrottleDevice
	for _, d := range list {
		if major, minor, ok := deviceNumber(d.Path); ok {
			t := specs.LinuxThrottleDevice{Rate: d.Rate}
			t.Major, t.Minor = major, minor
			out = append(out, t)
		}
	}
	return out
}

// deviceNumber of a device file; not ok when the path is none.
func deviceNumber(path string) (major, minor int64, ok bool) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return 0, 0, false
	}
	if k := st.Mode & unix.S_IFMT; k != unix.S_IFBLK && k != unix.S_IFCHR {
		return 0, 0, false
	}
	return int64(unix.Major(st.Rdev)), int64(unix.Minor(st.Rdev)), true
}
