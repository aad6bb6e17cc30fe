package container

import (
	"math"
	"slices"

	"github.com/moby/moby/api/types/blkiodev"
	"github.com/moby/moby/api/types/container"
)

// defaultWeight is the kernel's for block devices.
const defaultWeight = 100

// updateDevices puts the limits of block devices that the request names over
// those there are: nil leaves them, an empty list takes them away.
func updateDevices(have *container.Resources, want container.Resources) {
	if want.BlkioWeightDevice != nil {
		have.BlkioWeightDevice = want.BlkioWeightDevice
	}
	wanted := throttleLists(&want)
	for i, list := range throttleLists(have) {
		if *wanted[i] != nil {
			*list = *wanted[i]
		}
	}
}

// throttleLists are the lists of devices with a rate.
func throttleLists(r *container.Resources) []*[]*blkiodev.ThrottleDevice {
	return []*[]*blkiodev.ThrottleDevice{&r.BlkioDeviceReadBps, &r.BlkioDeviceWriteBps, &r.BlkioDeviceReadIOps, &r.BlkioDeviceWriteIOps}
}

// lifting is now with rules that lift what devices had before and have no
// more: the kernel keeps a rule until it gets another one for the device.
func lifting(before, now container.Resources) container.Resources {
	for _, d := range before.BlkioWeightDevice {
		if !slices.ContainsFunc(now.BlkioWeightDevice, func(n *blkiodev.WeightDevice) bool { return n.Path == d.Path }) {
			now.BlkioWeightDevice = append(slices.Clone(now.BlkioWeightDevice), &blkiodev.WeightDevice{Path: d.Path, Weight: defaultWeight})
		}
	}
	lists := throttleLists(&now)
	for i, old := range throttleLists(&before) {
		for _, d := range *old {
			if !slices.ContainsFunc(*lists[i], func(n *blkiodev.ThrottleDevice) bool { return n.Path == d.Path }) {
				*lists[i] = append(slices.Clone(*lists[i]), &blkiodev.ThrottleDevice{Path: d.Path, Rate: math.MaxUint64})
			}
		}
	}
	return now
}
