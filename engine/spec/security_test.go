package spec

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestThermalPathsAreThoseOfThisMachine(t *testing.T) {
	sysfs := t.TempDir()
	if got := thermal(sysfs); len(got) > 0 {
		t.Errorf("a machine without: %v", got)
	}
	var want []string
	for _, dir := range []string{"cpu0/thermal_throttle", "cpu1/thermal_throttle", "cpufreq/thermal_throttle", "cpu2/topology"} {
		path := filepath.Join(sysfs, "devices/system/cpu", dir)
		if err := os.MkdirAll(path, 0o755); err != nil {
			t.Fatal(err)
		}
		if len(want) < 2 {
			want = append(want, path)
		}
	}
	if got := thermal(sysfs); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
