package archive

import (
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

func TestIDsOfAContainersOwn(t *testing.T) {
	kept := []specs.LinuxIDMapping{{ContainerID: 0, HostID: 1, Size: 1000}, {ContainerID: 1000, HostID: 0, Size: 1}, {ContainerID: 1001, HostID: 1001, Size: 10}}
	ids := IDs{Users: kept, Groups: kept}
	for outside, inside := range map[uint32]int{0: 1000, 1: 0, 1000: 999, 1001: 1001, 1010: 1010} {
		if u, g := ids.inside(outside, outside); u != inside || g != inside {
			t.Errorf("%d is %d:%d inside, want %d", outside, u, g, inside)
		}
		if u, g := ids.outside(inside, inside); u != int(outside) || g != int(outside) {
			t.Errorf("%d is %d:%d outside, want %d", inside, u, g, outside)
		}
	}
	if u, _ := ids.outside(5000, 0); u != 1 {
		t.Errorf("an id that is not mapped becomes %d, want the container's root", u)
	}
	if u, g := (IDs{}).inside(7, 8); u != 7 || g != 8 {
		t.Errorf("without mappings: %d:%d", u, g)
	}
}
