package spec

import (
	"strings"
	"testing"

	"github.com/moby/moby/api/types/container"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

func TestKeptIDs(t *testing.T) {
	h := Host{MaxID: 65536, User: IDs{1000, 100}}
	for mode, want := range map[string]*IDs{
		"": nil, "host": nil,
		"keep-id":                   {1000, 100},
		"keep-id:uid=7":             {7, 100},
		"keep-id:uid=7,gid=0":       {7, 0},
		"keep-id:gid=2147483647":    {1000, 2147483647},
		"keep-id:uid=0,gid=0,uid=1": {1, 0},
	} {
		got, err := KeptIDs(&container.HostConfig{UsernsMode: container.UsernsMode(mode)}, h)
		if err != nil || (got == nil) != (want == nil) || got != nil && *got != *want {
			t.Errorf("%q: %v, %v; want %v", mode, got, err, want)
		}
	}
	for _, mode := range []string{"private", "keep-id:uid", "keep-id:uid=x", "keep-id:uid=-1", "keep-id:uid=2147483648", "keep-id:size=4", "keep-id:,", "nomap", "container:x"} {
		if got, err := KeptIDs(&container.HostConfig{UsernsMode: container.UsernsMode(mode)}, h); err == nil || !strings.Contains(err.Error(), "invalid userns mode") {
			t.Errorf("%q: %v, %v", mode, got, err)
		}
	}
	annotated := &container.HostConfig{Annotations: map[string]string{UsernsAnnotation: "keep-id"}}
	if got, err := KeptIDs(annotated, h); err != nil || got == nil {
		t.Errorf("by annotation: %v, %v", got, err)
	}
}

// TestMappingsAreWhole holds that every id of kelp's namespace has exactly one
// in the container, and the user's is the one kept.
func TestMappingsAreWhole(t *testing.T) {
	for _, max := range []uint32{0, 1, 1000, 65536} {
		for _, kept := range []uint32{0, 1, 999, 1000, 1001, 65536, 70000, 1<<31 - 1} {
			inside, outside := map[uint32]bool{}, map[uint32]bool{}
			for _, m := range Mappings(kept, Host{MaxID: max}) {
				for i := range m.Size {
					if inside[m.ContainerID+i] || outside[m.HostID+i] {
						t.Fatalf("kept %d of %d: mapped twice: %+v", kept, max, m)
					}
					inside[m.ContainerID+i], outside[m.HostID+i] = true, true
				}
				if m.HostID == 0 && m != (specs.LinuxIDMapping{ContainerID: kept, HostID: 0, Size: 1}) {
					t.Errorf("kept %d of %d: the user is %+v", kept, max, m)
				}
			}
			if len(outside) != int(max)+1 || !inside[kept] {
				t.Errorf("kept %d of %d: %d ids are mapped", kept, max, len(outside))
			}
		}
	}
}

func TestUsernsNeedsItsOwn(t *testing.T) {
	for name, tt := range map[string]struct {
		hc  container.HostConfig
		max uint32
	}{
		"no subordinate ids": {container.HostConfig{UsernsMode: "keep-id"}, 0},
		"the host's pids":    {container.HostConfig{UsernsMode: "keep-id", PidMode: "host"}, 65536},
		"another's pids":     {container.HostConfig{UsernsMode: "keep-id", PidMode: "container:x"}, 65536},
	} {
		if err := checkUserns(&tt.hc, Host{MaxID: tt.max}); err == nil {
			t.Errorf("%s: not refused", name)
		}
	}
}

func TestKeptUserIsTheDefault(t *testing.T) {
	in := testInput(t)
	in.HostConfig.UsernsMode = "keep-id:uid=7,gid=9"
	for user, want := range map[string]specs.User{"": {UID: 7, GID: 9}, "0:0": {}} {
		in.Config.User = user
		s, err := Build(in)
		if err != nil {
			t.Fatal(err)
		}
		if got := s.Process.User; got.UID != want.UID || got.GID != want.GID {
			t.Errorf("user %q: %+v", user, got)
		}
		if len(s.Linux.UIDMappings) == 0 || len(s.Linux.GIDMappings) == 0 {
			t.Errorf("user %q: no mappings", user)
		}
	}
}
