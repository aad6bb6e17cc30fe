package container

import (
	"math"
	"reflect"
	"testing"

	"github.com/moby/moby/api/types/blkiodev"
	"github.com/moby/moby/api/types/container"
)

// fill sets a field to something.
func fill(v reflect.Value) {
	switch v.Kind() {
	case reflect.String:
		v.SetString("x")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int64:
		v.SetInt(7)
	case reflect.Uint64, reflect.Uint16:
		v.SetUint(7)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem())
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0))
	}
}

// TestEveryLimitIsUpdatedOrRefused holds that an update ignores nothing.
func TestEveryLimitIsUpdatedOrRefused(t *testing.T) {
	refused := map[string]bool{
		"CgroupParent": true, "Devices": true, "DeviceCgroupRules": true, "DeviceRequests": true, "MemorySwappiness": true,
		"OomKillDisable": true, "Ulimits": true, "CPUCount": true, "CPUPercent": true, "IOMaximumIOps": true, "IOMaximumBandwidth": true,
	}
	for i := range reflect.TypeFor[container.Resources]().NumField() {
		var want container.Resources
		name := reflect.TypeOf(want).Field(i).Name
		fill(reflect.ValueOf(&want).Elem().Field(i))
		got, err := withLimits(container.Resources{}, want)
		switch {
		case refused[name] != (err != nil):
			t.Errorf("%s: %v", name, err)
		case err == nil && !reflect.DeepEqual(got, want):
			t.Errorf("%s is ignored", name)
		}
		if _, err := withLimits(want, want); err != nil {
			t.Errorf("%s, repeated: %v", name, err)
		}
	}
}

func TestLimitsOfDevicesAreLifted(t *testing.T) {
	rate := func(path string, n uint64) *blkiodev.ThrottleDevice {
		return &blkiodev.ThrottleDevice{Path: path, Rate: n}
	}
	have := container.Resources{
		BlkioDeviceReadBps: []*blkiodev.ThrottleDevice{rate("/dev/a", 1), rate("/dev/b", 2)},
		BlkioWeightDevice:  []*blkiodev.WeightDevice{{Path: "/dev/a", Weight: 500}},
	}
	now, err := withLimits(have, container.Resources{
		BlkioDeviceReadBps: []*blkiodev.ThrottleDevice{rate("/dev/b", 3)},
		BlkioWeightDevice:  []*blkiodev.WeightDevice{},
	})
	if err != nil || len(now.BlkioDeviceReadBps) != 1 || len(now.BlkioWeightDevice) != 0 {
		t.Fatalf("%+v, %v", now, err)
	}
	if same, _ := withLimits(have, container.Resources{}); !reflect.DeepEqual(same, have) {
		t.Errorf("what is not named has changed: %+v", same)
	}
	told := lifting(have, now)
	if r := told.BlkioDeviceReadBps; len(r) != 2 || *r[0] != *rate("/dev/b", 3) || *r[1] != *rate("/dev/a", math.MaxUint64) {
		t.Errorf("the kernel is told %+v", r)
	}
	if w := told.BlkioWeightDevice; len(w) != 1 || w[0].Weight != defaultWeight {
		t.Errorf("the kernel is told %+v", w)
	}
	if len(now.BlkioDeviceReadBps) != 1 || len(now.BlkioWeightDevice) != 0 {
		t.Error("what lifts limits would be recorded")
	}
}
