package account

import (
	"os"
	"slices"
	"testing"
)

func TestFind(t *testing.T) {
	for _, tt := range []struct {
		lines, name, home string
		gid               int
	}{
		{"root:x:0:0::/root:/bin/sh\nann.x:*:54321:100:Ann,,,:/home/ann.x:/bin/sh\n", "ann.x", "/home/ann.x", 100},
		{"ann:x:54321:100::/:", "ann", "/", 100},
		{"ann:x:5432:100::/:/bin/sh", "", "", 0},
		{"ann:x:54321:100:/home", "", "", 0},
		{"ann:x:54321:users::/:/bin/sh", "", "", 0},
		{":x:54321:100::/:/bin/sh", "", "", 0},
		{"+::::::", "", "", 0},
		{"", "", "", 0},
	} {
		a, ok := find(tt.lines, "54321")
		if a.Name != tt.name || a.Home != tt.home || a.GID != tt.gid || ok != (tt.name != "") {
			t.Errorf("%q gives %+v, %v", tt.lines, a, ok)
		}
	}
}

func TestGroupsReachProcesses(t *testing.T) {
	t.Setenv("USER", "")
	t.Setenv(groupsEnv, "1 2")
	Export()
	own, err := os.Getgroups()
	if err != nil {
		t.Fatal(err)
	}
	own = slices.DeleteFunc(own, func(g int) bool { return g == os.Getgid() })
	var got []int
	for _, g := range Groups() {
		got = append(got, int(g))
	}
	if !slices.Equal(got, own) {
		t.Errorf("groups %v, want %v", got, own)
	}
}
