package volume

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/api/types/volume"

	"github.com/kelp-engine/kelp/engine/filter"
	"github.com/kelp-engine/kelp/engine/mounts"
)

// log notes events as "action name".
type log struct{ lines []string }

func (l *log) Publish(_ events.Type, action events.Action, id string, _ map[string]string) {
	l.lines = append(l.lines, string(action)+" "+id)
}

func open(t *testing.T, dir string) (*Manager, *log) {
	t.Helper()
	l := &log{}
	m, err := NewManager(Config{Dir: filepath.Join(dir, "volumes"), Run: filepath.Join(dir, "run"), Socket: "/run/kelp.sock", Events: l})
	if err != nil {
		t.Fatal(err)
	}
	return m, l
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func names(t *testing.T, m *Manager, f filter.Args) string {
	t.Helper()
	list, err := m.List(f)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, v := range list {
		out = append(out, v.Name)
	}
	return strings.Join(out, " ")
}

func TestAVolumeOutlivesTheEngine(t *testing.T) {
	dir := t.TempDir()
	m, l := open(t, dir)
	v, err := m.Create(t.Context(), volume.CreateRequest{Name: "data", Labels: map[string]string{"a": "b"}})
	if err != nil {
		t.Fatal(err)
	}
	again, err := m.Create(t.Context(), volume.CreateRequest{Name: "data"})
	if err != nil || again.Labels["a"] != "b" {
		t.Errorf("a second create gives %v, %v; want the first one's volume", again, err)
	}
	write(t, filepath.Join(v.Mountpoint, "f"), "x")
	m, _ = open(t, dir)
	got, err := m.Inspect("data")
	if err != nil || got.Labels["a"] != "b" || got.Mountpoint != v.Mountpoint {
		t.Errorf("after a restart: %+v, %v", got, err)
	}
	if err := m.Remove(t.Context(), "data", false); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Dir(v.Mountpoint)); !os.IsNotExist(err) {
		t.Errorf("a removed volume leaves %s: %v", filepath.Dir(v.Mountpoint), err)
	}
	if err := m.Remove(t.Context(), "data", false); !errdefs.IsNotFound(err) {
		t.Errorf("a second remove: %v, want not found", err)
	}
	if got := strings.Join(l.lines, ", "); got != "create data" {
		t.Errorf("events: %s", got)
	}
}

func TestCreateRefuses(t *testing.T) {
	for _, tt := range []struct {
		name string
		req  volume.CreateRequest
		is   func(error) bool
		text string
	}{
		{"a path", volume.CreateRequest{Name: "a/b"}, errdefs.IsInvalidArgument, "includes invalid characters for a local volume name"},
		{"parent", volume.CreateRequest{Name: ".."}, errdefs.IsInvalidArgument, "includes invalid characters"},
		{"one letter", volume.CreateRequest{Name: "a"}, errdefs.IsInvalidArgument, "too short"},
		{"unknown driver", volume.CreateRequest{Name: "ab", Driver: "nfs"}, errdefs.IsNotFound, `plugin "nfs" not found`},
		{"unknown option", volume.CreateRequest{Name: "ab", DriverOpts: map[string]string{"x": "y"}}, errdefs.IsInvalidArgument, `invalid option: "x"`},
		{"no device", volume.CreateRequest{Name: "ab", DriverOpts: map[string]string{"type": "tmpfs"}}, errdefs.IsInvalidArgument, `missing required option: "device"`},
		{"no type", volume.CreateRequest{Name: "ab", DriverOpts: map[string]string{"device": "/x"}}, errdefs.IsInvalidArgument, `missing required option: "type"`},
		{"a disk", volume.CreateRequest{Name: "ab", DriverOpts: map[string]string{"type": "ext4", "device": "/dev/sda1"}}, errdefs.IsInvalidArgument, "an ordinary user may mount"},
		{"relative bind", volume.CreateRequest{Name: "ab", DriverOpts: map[string]string{"o": "bind", "device": "x"}}, errdefs.IsInvalidArgument, "absolute path"},
		{"quota", volume.CreateRequest{Name: "ab", DriverOpts: map[string]string{"size": "1g"}}, errdefs.IsInvalidArgument, "no quota support"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			m, _ := open(t, dir)
			_, err := m.Create(t.Context(), tt.req)
			if err == nil || !tt.is(err) || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("Create: %v", err)
			}
			left, err := os.ReadDir(filepath.Join(dir, "volumes"))
			if err != nil || len(left) > 0 {
				t.Errorf("left on disk: %v, %v", left, err)
			}
		})
	}
}

// noRootfs fails the test when a root file system is mounted for nothing.
func noRootfs(t *testing.T) Rootfs {
	return func(context.Context) (string, func(), error) {
		t.Error("the root file system was mounted for nothing")
		return t.TempDir(), func() {}, nil
	}
}

func rootfsAt(dir string) Rootfs {
	return func(context.Context) (string, func(), error) { return dir, func() {}, nil }
}

func TestAContainersVolumes(t *testing.T) {
	m, _ := open(t, t.TempDir())
	points := []mounts.Point{
		{Type: mount.TypeVolume, Target: "/a", Anonymous: true, NoCopy: true},
		{Type: mount.TypeVolume, Target: "/n", Name: "named", NoCopy: true},
		{Type: mount.TypeTmpfs, Target: "/t"},
	}
	held, err := m.Prepare(t.Context(), "c1", points, noRootfs(t))
	if err != nil {
		t.Fatal(err)
	}
	anonymous := held[0].Name
	if len(anonymous) != 64 || held[1].Source == "" {
		t.Fatalf("points: %+v", held)
	}
	if err := m.Remove(t.Context(), "named", true); !errdefs.IsConflict(err) || err.Error() != "remove named: volume is in use - [c1]" {
		t.Errorf("remove of a volume in use: %v", err)
	}
	if got := names(t, m, filter.Args{"dangling": {"true"}}); got != "" {
		t.Errorf("dangling: %s", got)
	}
	if _, err := m.Prepare(t.Context(), "c2", held[:1], noRootfs(t)); err != nil {
		t.Fatal(err)
	}
	if err := m.Release(t.Context(), "c1", held, true); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Inspect(anonymous); err != nil {
		t.Errorf("an anonymous volume that another container uses is gone: %v", err)
	}
	if err := m.Release(t.Context(), "c2", held[:1], true); err != nil {
		t.Fatal(err)
	}
	if got := names(t, m, nil); got != "named" {
		t.Errorf("left: %s, want the named volume only", got)
	}
}

func TestAFailedPrepareLeavesNothing(t *testing.T) {
	m, _ := open(t, t.TempDir())
	_, err := m.Prepare(t.Context(), "c1", []mounts.Point{
		{Type: mount.TypeVolume, Target: "/a", Anonymous: true},
		{Type: mount.TypeVolume, Target: "/n", Name: "named"},
		{Type: mount.TypeBind, Target: "/b", Source: "/no/such"},
	}, noRootfs(t))
	want := `invalid mount config for type "bind": bind source path does not exist: /no/such`
	if err == nil || err.Error() != want || !errdefs.IsInvalidArgument(err) {
		t.Errorf("Prepare: %v, want %s", err, want)
	}
	if got := names(t, m, nil); got != "" {
		t.Errorf("left: %s", got)
	}
}

func TestPrune(t *testing.T) {
	for _, tt := range []struct {
		name   string
		filter filter.Args
		left   string
	}{
		{"anonymous ones", nil, "kept labelled used"},
		{"all", filter.Args{"all": {"true"}}, "used"},
		{"all with a label", filter.Args{"all": {"true"}, "label": {"l"}}, "kept used"},
		{"all without a label", filter.Args{"all": {"true"}, "label!": {"l"}}, "labelled used"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m, _ := open(t, t.TempDir())
			for _, r := range []volume.CreateRequest{{Name: "kept"}, {Name: "used"}, {Name: "labelled", Labels: map[string]string{"l": "1"}}, {}} {
				v, err := m.Create(t.Context(), r)
				if err != nil {
					t.Fatal(err)
				}
				write(t, filepath.Join(v.Mountpoint, "f"), "12345")
			}
			m.Adopt("c1", []mounts.Point{{Type: mount.TypeVolume, Name: "used"}}, false)
			report, err := m.Prune(t.Context(), tt.filter)
			if err != nil {
				t.Fatal(err)
			}
			got := names(t, m, nil)
			for _, v := range report.VolumesDeleted {
				got = strings.ReplaceAll(got, v, "")
			}
			if len(report.VolumesDeleted)*5 != int(report.SpaceReclaimed) {
				t.Errorf("report: %+v", report)
			}
			if tt.filter["label"] == nil && tt.filter["label!"] == nil && got != tt.left {
				t.Errorf("left: %q, want %q", got, tt.left)
			}
			for _, name := range strings.Fields(tt.left) {
				if _, err := m.Inspect(name); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
		})
	}
}

func TestFillKeepsWhatTheImageHas(t *testing.T) {
	m, _ := open(t, t.TempDir())
	rootfs := t.TempDir()
	write(t, filepath.Join(rootfs, "data/sub/f"), "x")
	if err := os.Chmod(filepath.Join(rootfs, "data"), 0o1750); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(filepath.Join(rootfs, "data/sub/f"), filepath.Join(rootfs, "data/hard")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc/passwd", filepath.Join(rootfs, "data/link")); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Chmod(filepath.Join(rootfs, "data"), syscall.S_ISVTX|0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../../../../data", filepath.Join(rootfs, "way")); err != nil {
		t.Fatal(err)
	}
	held, err := m.Prepare(t.Context(), "c", []mounts.Point{{Type: mount.TypeVolume, Target: "/way", Name: "vol"}}, rootfsAt(rootfs))
	if err != nil {
		t.Fatal(err)
	}
	dir := held[0].Source
	info, err := os.Stat(dir)
	if err != nil || info.Mode() != os.ModeDir|os.ModeSticky|0o750 {
		t.Errorf("mode of the volume: %v, %v", info.Mode(), err)
	}
	if to, err := os.Readlink(filepath.Join(dir, "link")); to != "/etc/passwd" {
		t.Errorf("a symbolic link became %q, %v", to, err)
	}
	a, errA := os.Stat(filepath.Join(dir, "hard"))
	b, errB := os.Stat(filepath.Join(dir, "sub/f"))
	if errA != nil || errB != nil || !os.SameFile(a, b) {
		t.Errorf("hard links are two files: %v %v", errA, errB)
	}
	if left, _ := os.ReadDir(filepath.Dir(dir)); len(left) != 2 {
		t.Errorf("beside the data: %v, want the record only", left)
	}
	if _, err := m.Prepare(t.Context(), "c2", held, noRootfs(t)); err != nil {
		t.Error(err)
	}
}

func TestFillRefusesAFile(t *testing.T) {
	m, _ := open(t, t.TempDir())
	rootfs := t.TempDir()
	write(t, filepath.Join(rootfs, "f"), "x")
	_, err := m.Prepare(t.Context(), "c", []mounts.Point{{Type: mount.TypeVolume, Target: "/f", Name: "vol"}}, rootfsAt(rootfs))
	if err == nil || !strings.Contains(err.Error(), "cannot mount volume over existing file, file exists /f") {
		t.Errorf("Prepare: %v", err)
	}
	if got := names(t, m, nil); got != "" {
		t.Errorf("left: %s", got)
	}
}

func TestAnInterruptedFill(t *testing.T) {
	for _, tt := range []struct {
		name, stage string
		has         bool
	}{
		{"while copying", copying, false},
		{"while moving into place", copied, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			m, _ := open(t, dir)
			v, err := m.Create(t.Context(), volume.CreateRequest{Name: "vol"})
			if err != nil {
				t.Fatal(err)
			}
			write(t, filepath.Join(filepath.Dir(v.Mountpoint), tt.stage, "f"), "x")
			open(t, dir)
			_, err = os.Stat(filepath.Join(v.Mountpoint, "f"))
			if has := err == nil; has != tt.has {
				t.Errorf("the file is there: %v, want %v", has, tt.has)
			}
			if left, _ := os.ReadDir(filepath.Dir(v.Mountpoint)); len(left) != 2 {
				t.Errorf("beside the data: %v, want the record only", left)
			}
		})
	}
}

func TestTheDockerSocketIsTheUsersOwn(t *testing.T) {
	m, _ := open(t, t.TempDir())
	for _, source := range []string{"/var/run/docker.sock", "/run/docker.sock", "/var/run/docker.raw.sock"} {
		points := []mounts.Point{{Type: mount.TypeBind, Source: source, Target: "/var/run/docker.sock"}}
		held, err := m.Prepare(t.Context(), "c", points, noRootfs(t))
		if err != nil {
			t.Fatal(err)
		}
		got, err := m.Mount(t.Context(), "c", held)
		if err != nil || got[0].Source != "/run/kelp.sock" {
			t.Errorf("Mount %s: %+v, %v", source, got, err)
		}
		if held[0].Source != source {
			t.Errorf("the record has %s, want the client's words", held[0].Source)
		}
	}
}
