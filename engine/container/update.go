package container

import (
	"context"
	"reflect"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"

	"github.com/kelp-engine/kelp/engine/crashpoint"
	"github.com/kelp-engine/kelp/engine/fault"
	"github.com/kelp-engine/kelp/engine/spec"
	"github.com/kelp-engine/kelp/userns/cgroup"
)

// Update changes a container's limits and restart policy. What the request
// leaves at zero stays as it is.
func (m *Manager) Update(ctx context.Context, ref string, u container.UpdateConfig) (warnings []string, err error) {
	c, err := m.Find(ref)
	if err != nil {
		return nil, err
	}
	release, err := c.beginOp(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	ctx = context.WithoutCancel(ctx) // what is applied is to be saved
	m.settle(ctx, c)
	r := c.Snapshot()
	if r.State == Removing || r.State == Dead {
		return nil, fault.Conflict("Container is marked for removal and cannot be updated.")
	}
	if err := checkNulls(&u.Resources); err != nil {
		return nil, err
	}
	host := *r.HostConfig
	if host.Resources, err = withLimits(host.Resources, u.Resources); err != nil {
		return nil, err
	}
	if u.RestartPolicy.Name != "" {
		if r.HostConfig.AutoRemove {
			return nil, fault.Conflict("Restart policy cannot be updated because AutoRemove is enabled for the container")
		}
		if err := container.ValidateRestartPolicy(u.RestartPolicy); err != nil {
			return nil, fault.InvalidArgument("%w", err)
		}
		host.RestartPolicy = u.RestartPolicy
	}
	if warnings, err = spec.ValidateResources(&host.Resources, m.o.Host); err != nil {
		return nil, err
	}
	// Acted on before it is saved: limits that the kernel refuses are not kept,
	// and an engine that dies in between has told nobody of new ones.
	// Without cgroups there is nothing to act on; warnings say so.
	limited := !reflect.DeepEqual(host.Resources, r.HostConfig.Resources) && m.o.Cgroups.Driver != cgroup.None
	if limits := spec.Resources(lifting(r.HostConfig.Resources, host.Resources), m.o.Host); limited && limits != nil && r.State.Running() {
		if err := m.o.Processes.Update(ctx, c.id, *limits); err != nil {
			return nil, named(r, "update", err)
		}
	}
	crashpoint.Hit("container.update.applied")
	if err := m.change(c, power, func(r *Record) { r.HostConfig = &host }); err != nil {
		return nil, err
	}
	m.publish(c.Snapshot(), events.ActionUpdate)
	return warnings, nil
}

// withLimits puts the limits that the request sets over those there are.
func withLimits(have, want container.Resources) (container.Resources, error) {
	if want.NanoCPUs > 0 && (want.CPUPeriod > 0 || want.CPUQuota > 0 || have.CPUPeriod > 0 || have.CPUQuota > 0) {
		return have, fault.Conflict("Conflicting options: Nano CPUs cannot be updated as CPU Period or Quota has already been set")
	}
	if (want.CPUPeriod > 0 || want.CPUQuota > 0) && have.NanoCPUs > 0 {
		return have, fault.Conflict("Conflicting options: CPU Period and Quota cannot be updated as NanoCPUs has already been set")
	}
	if want.Memory > 0 && want.MemorySwap == 0 && have.MemorySwap > 0 && want.Memory > have.MemorySwap {
		return have, fault.InvalidArgument("Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time")
	}
	for _, f := range []struct{ have, want *int64 }{
		{&have.CPUShares, &want.CPUShares},
		{&have.NanoCPUs, &want.NanoCPUs},
		{&have.CPUPeriod, &want.CPUPeriod},
		{&have.CPUQuota, &want.CPUQuota},
		{&have.CPURealtimePeriod, &want.CPURealtimePeriod},
		{&have.CPURealtimeRuntime, &want.CPURealtimeRuntime},
		{&have.Memory, &want.Memory},
		{&have.MemorySwap, &want.MemorySwap},
		{&have.MemoryReservation, &want.MemoryReservation},
	} {
		if *f.want != 0 {
			*f.have = *f.want
		}
	}
	if want.BlkioWeight != 0 {
		have.BlkioWeight = want.BlkioWeight
	}
	if want.CpusetCpus != "" {
		have.CpusetCpus = want.CpusetCpus
	}
	if want.CpusetMems != "" {
		have.CpusetMems = want.CpusetMems
	}
	if want.PidsLimit != nil {
		have.PidsLimit = want.PidsLimit
	}
	updateDevices(&have, want)
	return have, checkFixed(have, want)
}

// checkFixed refuses what a request sets beyond the limits that withLimits
// has put into have. A client may repeat what is there.
func checkFixed(have, want container.Resources) error {
	h, w := reflect.ValueOf(have), reflect.ValueOf(want)
	for i := range w.NumField() {
		v := w.Field(i)
		unset := v.IsZero() || v.Kind() == reflect.Slice && v.Len() == 0
		if !unset && !reflect.DeepEqual(v.Interface(), h.Field(i).Interface()) {
			return fault.InvalidArgument("%s of a container cannot be updated", w.Type().Field(i).Name).
				WithHint("create the container anew")
		}
	}
	return nil
}
