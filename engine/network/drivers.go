package network

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
)

// trials tell what kinds of networks the kernel can do.
type trials struct {
	bridges Bridges
	drivers atomic.Pointer[[]string] // nil until it is known
}

// Drivers names the drivers of the networks that there are and that can be
// made. Whether the kernel can stack devices is tried once.
func (t *trials) Drivers(ctx context.Context) []string {
	if known := t.drivers.Load(); known != nil {
		return slices.Clone(*known)
	}
	known := []string{driverBridge, driverHost, driverNull}
	for _, driver := range []string{driverIpvlan, driverMacvlan} {
		r := newRecord("trial-of-"+driver, driver)
		if errors.Join(t.bridges.EnsureNetwork(ctx, r.keeper()), t.bridges.RemoveNetwork(ctx, r.ID)) == nil {
			known = append(known, driver)
		}
	}
	slices.Sort(known)
	if ctx.Err() == nil {
		t.drivers.Store(&known)
	}
	return slices.Clone(known)
}
