package spec

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/blkiodev"
	"github.com/moby/moby/api/types/container"

	"github.com/kelp-engine/kelp/engine/fault"
)

// minMemory is the least memory that a container can start with, in bytes.
const minMemory = 6 << 20

// ValidateResources refuses limits that make no sense, in Docker's words, and
// clears those that the host cannot apply, with a warning for each.
func ValidateResources(r *container.Resources, h Host) (warnings []string, err error) {
	for _, check := range []func(*container.Resources) error{checkMemory, checkCPU, checkCpusets, checkBlkio, checkWindows} {
		if err := check(r); err != nil {
			return nil, err
		}
	}
	if strings.Contains("/"+r.CgroupParent+"/", "/../") {
		return nil, fault.InvalidArgument("invalid cgroup parent %q", r.CgroupParent)
	}
	d := discarder{h: h}
	d.memory(r)
	d.cpu(r)
	d.io(r)
	if r.PidsLimit != nil && *r.PidsLimit > 0 && d.without("pids", "PIDs limit capabilities", "PIDs limit discarded") {
		r.PidsLimit = nil
	}
	if r.CgroupParent != "" && len(h.Controllers) == 0 && !h.CgroupNamespace {
		d.warn("No cgroup is delegated to you. The cgroup parent is discarded.")
		r.CgroupParent = ""
	}
	return d.warnings, nil
}

// discarder collects a warning for every limit that cannot be applied.
type discarder struct {
	h        Host
	warnings []string
}

func (d *discarder) warn(text string) { d.warnings = append(d.warnings, text) }

// without says whether the controller is missing, and then warns, in Docker's
// words, of what comes of it.
func (d *discarder) without(controller, what, consequence string) bool {
	if d.h.Controllers[controller] {
		return false
	}
	d.warn(fmt.Sprintf("Your kernel does not support %s or the cgroup is not mounted. %s.", what, consequence))
	return true
}

func (d *discarder) memory(r *container.Resources) {
	if r.Memory > 0 && d.without("memory", "memory limit capabilities", "Limitation discarded") {
		r.Memory, r.MemorySwap = 0, 0
	}
	if r.MemorySwap > 0 && d.without("memory", "swap limit capabilities", "Memory limited without swap") {
		r.MemorySwap = 0
	}
	if r.MemoryReservation > 0 && d.without("memory", "memory soft limit capabilities", "Limitation discarded") {
		r.MemoryReservation = 0
	}
	// Cgroup v2 has neither of these at all.
	if r.MemorySwappiness != nil && *r.MemorySwappiness != -1 {
		d.warn("Your kernel does not support memory swappiness capabilities or the cgroup is not mounted. Memory swappiness discarded.")
	}
	r.MemorySwappiness = nil
	if r.OomKillDisable != nil && *r.OomKillDisable {
		d.warn("Your kernel does not support OomKillDisable. OomKillDisable discarded.")
	}
	r.OomKillDisable = nil
}

func (d *discarder) cpu(r *container.Resources) {
	if r.CPUShares > 0 && d.without("cpu", "CPU shares", "Shares discarded") {
		r.CPUShares = 0
	}
	if (r.CPUPeriod > 0 || r.CPUQuota > 0) && d.without("cpu", "CPU CFS scheduler", "CPU period/quota discarded") {
		r.CPUPeriod, r.CPUQuota = 0, 0
	}
	if r.NanoCPUs > 0 && d.without("cpu", "CPU CFS scheduler", "CPU limit discarded") {
		r.NanoCPUs = 0
	}
	if (r.CpusetCpus != "" || r.CpusetMems != "") && d.without("cpuset", "cpuset", "CPUset discarded") {
		r.CpusetCpus, r.CpusetMems = "", ""
	}
}

func (d *discarder) io(r *container.Resources) {
	if r.BlkioWeight > 0 && d.without("io", "Block I/O weight", "Weight discarded") {
		r.BlkioWeight = 0
	}
	if len(r.BlkioWeightDevice) > 0 && d.without("io", "Block I/O weight_device", "Weight-device discarded") {
		r.BlkioWeightDevice = nil
	}
	for _, l := range []struct {
		unit, way string
		list      *[]*blkiodev.ThrottleDevice
	}{
		{"BPS", "read", &r.BlkioDeviceReadBps},
		{"BPS", "write", &r.BlkioDeviceWriteBps},
		{"IOPS", "read", &r.BlkioDeviceReadIOps},
		{"IOPS", "write", &r.BlkioDeviceWriteIOps},
	} {
		if len(*l.list) > 0 && d.without("io", l.unit+" Block I/O "+l.way+" limit", "Block I/O "+l.unit+" "+l.way+" limit discarded") {
			*l.list = nil
		}
	}
}

func checkMemory(r *container.Resources) error {
	switch {
	case r.Memory < 0 || r.Memory > 0 && r.Memory < minMemory:
		return fault.InvalidArgument("Minimum memory limit allowed is 6MB")
	case r.Memory > 0 && r.MemorySwap > 0 && r.MemorySwap < r.Memory:
		return fault.InvalidArgument("Minimum memoryswap limit should be larger than memory limit, see usage")
	case r.Memory == 0 && r.MemorySwap > 0:
		return fault.InvalidArgument("You should always set the Memory limit when using Memoryswap limit, see usage")
	case r.MemorySwap < -1:
		return fault.InvalidArgument("invalid memory and swap limit %d: -1 is no limit", r.MemorySwap)
	case r.MemorySwappiness != nil && (*r.MemorySwappiness < -1 || *r.MemorySwappiness > 100):
		return fault.InvalidArgument("Invalid value: %v, valid memory swappiness range is 0-100", *r.MemorySwappiness)
	case r.MemoryReservation < 0 || r.MemoryReservation > 0 && r.MemoryReservation < minMemory:
		return fault.InvalidArgument("Minimum memory reservation allowed is 6MB")
	case r.Memory > 0 && r.MemoryReservation > r.Memory:
		return fault.InvalidArgument("Minimum memory limit can not be less than memory reservation limit, see usage")
	}
	return nil
}

func checkCPU(r *container.Resources) error {
	cpus := int64(runtime.NumCPU())
	switch {
	case r.NanoCPUs > 0 && r.CPUPeriod > 0:
		return fault.InvalidArgument("Conflicting options: Nano CPUs and CPU Period cannot both be set")
	case r.NanoCPUs > 0 && r.CPUQuota > 0:
		return fault.InvalidArgument("Conflicting options: Nano CPUs and CPU Quota cannot both be set")
	case r.NanoCPUs < 0 || r.NanoCPUs > cpus*1e9 || r.NanoCPUs > 0 && r.NanoCPUs < 1e7:
		return fault.InvalidArgument("range of CPUs is from 0.01 to %d.00, as there are only %d CPUs available", cpus, cpus)
	case r.CPUShares < 0:
		return fault.InvalidArgument("invalid CPU shares (%d): value must be a positive integer", r.CPUShares)
	case r.CPUPeriod != 0 && (r.CPUPeriod < 1000 || r.CPUPeriod > 1_000_000):
		return fault.InvalidArgument("CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)")
	case r.CPUQuota > 0 && r.CPUQuota < 1000, r.CPUQuota < -1:
		return fault.InvalidArgument("CPU cfs quota can not be less than 1ms (i.e. 1000)")
	case r.CPURealtimePeriod != 0 || r.CPURealtimeRuntime != 0:
		return fault.InvalidArgument("kernel does not support CPU real-time scheduler")
	}
	return nil
}

func checkCpusets(r *container.Resources) error {
	if _, err := parseCpuset(r.CpusetCpus); err != nil {
		return fault.InvalidArgument("Invalid value %s for cpuset cpus", r.CpusetCpus)
	}
	if _, err := parseCpuset(r.CpusetMems); err != nil {
		return fault.InvalidArgument("Invalid value %s for cpuset mems", r.CpusetMems)
	}
	if err := checkAvailable("CPUs", r.CpusetCpus, "/sys/devices/system/cpu/online"); err != nil {
		return err
	}
	return checkAvailable("memory nodes", r.CpusetMems, "/sys/devices/system/node/online")
}

// checkAvailable refuses members of a set that the host does not have online.
func checkAvailable(what, asked, file string) error {
	b, err := os.ReadFile(file)
	if err != nil || asked == "" {
		return nil // a kernel without the file leaves it to the cgroup
	}
	available := strings.TrimSpace(string(b))
	have, err := parseCpuset(available)
	if err != nil {
		return nil
	}
	want, _ := parseCpuset(asked)
	for _, n := range want {
		if !slices.Contains(have, n) {
			return fault.InvalidArgument("Requested %s are not available - requested %s, available: %s", what, asked, available)
		}
	}
	return nil
}

// maxCpuset bounds the numbers in a set, so that a range cannot be endless.
const maxCpuset = 1 << 13

// parseCpuset lists the numbers of a set such as "0-2,7".
func parseCpuset(s string) (list []int, err error) {
	if s == "" {
		return nil, nil
	}
	for _, part := range strings.Split(s, ",") {
		low, high, isRange := strings.Cut(part, "-")
		from, err := strconv.ParseUint(low, 10, 16)
		if err != nil {
			return nil, err
		}
		to := from
		if isRange {
			if to, err = strconv.ParseUint(high, 10, 16); err != nil {
				return nil, err
			}
		}
		if to < from || to >= maxCpuset {
			return nil, fmt.Errorf("invalid range %q", part)
		}
		for n := from; n <= to; n++ {
			list = append(list, int(n))
		}
	}
	return list, nil
}

func checkBlkio(r *container.Resources) error {
	if r.BlkioWeight > 0 && (r.BlkioWeight < 10 || r.BlkioWeight > 1000) {
		return fault.InvalidArgument("range of blkio weight is from 10 to 1000")
	}
	for _, d := range r.BlkioWeightDevice {
		if d.Weight != 0 && (d.Weight < 10 || d.Weight > 1000) {
			return fault.InvalidArgument("range of blkio weight is from 10 to 1000")
		}
		if err := checkBlockDevice(d.Path); err != nil {
			return err
		}
	}
	for _, d := range slices.Concat(r.BlkioDeviceReadBps, r.BlkioDeviceWriteBps, r.BlkioDeviceReadIOps, r.BlkioDeviceWriteIOps) {
		if err := checkBlockDevice(d.Path); err != nil {
			return err
		}
	}
	return nil
}

func checkBlockDevice(path string) error {
	if _, _, ok := deviceNumber(path); !ok {
		return fault.InvalidArgument("invalid device %q for a block I/O limit: no device file is there", path)
	}
	return nil
}

func checkWindows(r *container.Resources) error {
	if r.CPUCount != 0 || r.CPUPercent != 0 || r.IOMaximumIOps != 0 || r.IOMaximumBandwidth != 0 {
		return fault.InvalidArgument("CpuCount, CpuPercent, IOMaximumIOps and IOMaximumBandwidth are settings of Windows containers")
	}
	return nil
}
