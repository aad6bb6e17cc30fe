package cgroup

import (
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestProbe(t *testing.T) {
	group := func(dir string) map[string]string {
		return map[string]string{
			dir + "/cgroup.procs": "", dir + "/cgroup.subtree_control": "", dir + "/cgroup.controllers": "cpu memory pids\n",
		}
	}
	for _, test := range []struct {
		name    string
		files   []map[string]string
		cgroup2 string
		want    Info
	}{
		{"nothing", nil, "", Info{Driver: None, Version: 1}},
		{
			"delegated",
			[]map[string]string{{"proc/self/cgroup": "0::/a/b\n"}, group("sys/fs/cgroup/a/b")},
			"sys/fs/cgroup",
			Info{Driver: FS, Version: 2, Base: "/a/b", Evacuate: true, Controllers: []string{"cpu", "memory", "pids"}},
		},
		{
			"evacuated",
			[]map[string]string{{"proc/self/cgroup": "0::/a/b/" + Evacuation + "\n"}, group("sys/fs/cgroup/a/b")},
			"sys/fs/cgroup",
			Info{Driver: FS, Version: 2, Base: "/a/b", Controllers: []string{"cpu", "memory", "pids"}},
		},
		{
			"evacuated, own cgroup namespace",
			[]map[string]string{{"proc/self/cgroup": "0::/" + Evacuation + "\n"}, group("sys/fs/cgroup")},
			"sys/fs/cgroup",
			Info{Driver: FS, Version: 2, Base: "/", Controllers: []string{"cpu", "memory", "pids"}},
		},
		{
			"not delegated",
			[]map[string]string{{"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/cgroup.controllers": "cpu\n"}},
			"sys/fs/cgroup",
			Info{Driver: None, Version: 2},
		},
		{
			"hybrid",
			[]map[string]string{
				{"proc/self/cgroup": "3:memory:/x\n0::/u\n"},
				group("sys/fs/cgroup/unified/u"),
				{"sys/fs/cgroup/unified/u/cgroup.controllers": "\n"},
			},
			"sys/fs/cgroup/unified",
			Info{Driver: FS, Version: 1, Base: "/u", Evacuate: true},
		},
		{
			"outside of the namespace",
			[]map[string]string{{"proc/self/cgroup": "0::/../b\n"}, group("sys/fs/cgroup/b")},
			"sys/fs/cgroup",
			Info{Driver: None, Version: 2},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := host{root: t.TempDir()}
			h.isCgroup2 = func(dir string) bool { return test.cgroup2 != "" && dir == h.path(test.cgroup2) }
			for _, files := range test.files {
				for name, content := range files {
					if err := os.MkdirAll(filepath.Dir(h.path(name)), 0o755); err != nil {
						t.Fatal(err)
					}
					if err := os.WriteFile(h.path(name), []byte(content), 0o644); err != nil {
						t.Fatal(err)
					}
				}
			}
			got := probe(h)
			if got.Driver != test.want.Driver || got.Version != test.want.Version || got.Base != test.want.Base ||
				got.Evacuate != test.want.Evacuate || !slices.Equal(got.Controllers, test.want.Controllers) {
				t.Errorf("got %+v, want %+v", got, test.want)
			}
			if len(got.Controllers) == 0 && (got.Reason == "" || got.Hint == "") {
				t.Error("no controllers, and no reason or hint")
			}
		})
	}
}

func TestContainer(t *testing.T) {
	for _, test := range []struct {
		info       Info
		id, parent string
		want       string
	}{
		{Info{Driver: None}, "c1", "", ""},
		{Info{Driver: FS, Base: "/a"}, "c1", "", "/a/c1"},
		{Info{Driver: FS, Base: "/a"}, "c1", "/my/group", "/a/my/group/c1"},
		{Info{Driver: FS, Base: "/a"}, "c1", "../../b", "/a/b/c1"},
		{Info{Driver: Systemd}, "c1", "", "user.slice:kelp:c1"},
		{Info{Driver: Systemd}, "c1", "my.slice", "my.slice:kelp:c1"},
	} {
		if got, systemd := test.info.Container(test.id, test.parent); got != test.want || systemd != strings.Contains(got, ":") {
			t.Errorf("%+v: got %q, %v", test, got, systemd)
		}
	}
}

func TestDataRootsAreApart(t *testing.T) {
	i := Info{Driver: FS, Base: "/a"}
	a, b := i.Of("/data/a"), i.Of("/data/b")
	if a.Base == b.Base || a.Base != i.Of("/data/a").Base || path.Dir(a.Base) != "/a" {
		t.Errorf("%s and %s", a.Base, b.Base)
	}
	if s := (Info{Driver: Systemd, Base: "/s"}).Of("/data/a"); s.Base != "/s" {
		t.Errorf("systemd names its own: %s", s.Base)
	}
}
