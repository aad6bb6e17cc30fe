package mounts

import (
	"errors"
	"path"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
)

func TestParseBind(t *testing.T) {
	for _, tt := range []struct {
		raw  string
		want Point
		err  string
	}{
		{raw: "/h:/c", want: Point{Type: "bind", Source: "/h", Target: "/c", Create: true, Propagation: "rprivate"}},
		{raw: "/h/:/c/../d:ro,rslave,z", want: Point{Type: "bind", Source: "/h", Target: "/d", Create: true, ReadOnly: true, Propagation: "rslave", Mode: "ro,rslave,z"}},
		{raw: "data:/c", want: Point{Type: "volume", Name: "data", Target: "/c"}},
		{raw: "data:/c:nocopy,ro", want: Point{Type: "volume", Name: "data", Target: "/c", NoCopy: true, ReadOnly: true, Mode: "nocopy,ro"}},
		{raw: "/c", want: Point{Type: "volume", Target: "/c", Anonymous: true}},
		{raw: "", err: "invalid volume specification: ''"},
		{raw: ":/c", err: "invalid volume specification: ':/c'"},
		{raw: "/h:ro", err: "invalid volume specification: '/h:ro'"},
		{raw: "/h:/c:ro:x", err: "invalid volume specification"},
		{raw: "/h:c", err: "mount path must be absolute"},
		{raw: "/h:/", err: "invalid specification: destination can't be '/'"},
		{raw: "/h:/..", err: "invalid specification: destination can't be '/'"},
		{raw: "/h:/c:rw,ro", err: "invalid mode: rw,ro"},
		{raw: "/h:/c:x", err: "invalid mode: x"},
		{raw: "/h:/c:ro,", err: "invalid mode: ro,"},
		{raw: "/h:/c:nocopy", err: "nocopy is for volumes"},
		{raw: "data:/c:rshared", err: "propagation is for binds"},
		{raw: "./h:/c", err: `create ./h: "./h" includes invalid characters for a local volume name, only "[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, use absolute path`},
		{raw: "../../x:/c", err: "includes invalid characters"},
	} {
		t.Run(tt.raw, func(t *testing.T) {
			got, err := parseBind(tt.raw, "")
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) || !errdefs.IsInvalidArgument(err) {
					t.Errorf("error %v, want %s", err, tt.err)
				}
				return
			}
			if err != nil || !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got %+v, %v\nwant %+v", got, err, tt.want)
			}
		})
	}
}

func TestParseMount(t *testing.T) {
	for _, tt := range []struct {
		name string
		in   mount.Mount
		want Point
		err  string
	}{
		{
			name: "bind", in: mount.Mount{Type: "bind", Source: "/h", Target: "/c", Consistency: "cached"},
			want: Point{Type: "bind", Source: "/h", Target: "/c", Propagation: "rprivate", FromMounts: true},
		},
		{
			name: "bind with everything", in: mount.Mount{Type: "bind", Source: "/h", Target: "/c", ReadOnly: true, BindOptions: &mount.BindOptions{CreateMountpoint: true, NonRecursive: true, Propagation: "slave", ReadOnlyNonRecursive: true}},
			want: Point{Type: "bind", Source: "/h", Target: "/c", ReadOnly: true, Create: true, NonRecursive: true, ReadOnlyNonRecursive: true, Propagation: "slave", FromMounts: true},
		},
		{
			name: "bind, all of it read-only", in: mount.Mount{Type: "bind", Source: "/h", Target: "/c", ReadOnly: true, BindOptions: &mount.BindOptions{ReadOnlyForceRecursive: true}},
			want: Point{Type: "bind", Source: "/h", Target: "/c", ReadOnly: true, ReadOnlyForceRecursive: true, Propagation: "rprivate", FromMounts: true},
		},
		{
			name: "volume", in: mount.Mount{Type: "volume", Source: "data", Target: "/c", VolumeOptions: &mount.VolumeOptions{NoCopy: true, Subpath: "a/b", Labels: map[string]string{"l": ""}, DriverConfig: &mount.Driver{Name: "local", Options: map[string]string{"o": "bind"}}}},
			want: Point{Type: "volume", Name: "data", Target: "/c", NoCopy: true, Subpath: "a/b", Driver: "local", DriverOpts: map[string]string{"o": "bind"}, Labels: map[string]string{"l": ""}, FromMounts: true},
		},
		{
			name: "tmpfs", in: mount.Mount{Type: "tmpfs", Target: "/c", TmpfsOptions: &mount.TmpfsOptions{SizeBytes: 4096, Mode: 0o700, Options: [][]string{{"exec"}, {"uid", "5"}}}},
			want: Point{Type: "tmpfs", Target: "/c", TmpfsOptions: []string{"exec", "nosuid", "nodev", "size=4096", "mode=700", "uid=5"}, FromMounts: true},
		},
		{
			name: "image", in: mount.Mount{Type: "image", Source: "busybox", Target: "/c", ImageOptions: &mount.ImageOptions{Subpath: "bin"}},
			want: Point{Type: "image", Name: "busybox", Target: "/c", ReadOnly: true, Subpath: "bin", FromMounts: true},
		},
		{name: "no type", in: mount.Mount{Target: "/c"}, err: `invalid mount config for type "": mount type unknown`},
		{name: "pipe of Windows", in: mount.Mount{Type: "npipe", Target: "/c"}, err: "mount type unknown"},
		{name: "no target", in: mount.Mount{Type: "bind", Source: "/h"}, err: `invalid mount config for type "bind": field Target must not be empty`},
		{name: "no source", in: mount.Mount{Type: "bind", Target: "/c"}, err: "field Source must not be empty"},
		{name: "relative source", in: mount.Mount{Type: "bind", Source: "h", Target: "/c"}, err: "invalid mount path: 'h' mount path must be absolute"},
		{name: "foreign options", in: mount.Mount{Type: "bind", Source: "/h", Target: "/c", VolumeOptions: &mount.VolumeOptions{}}, err: "field VolumeOptions must not be specified"},
		{name: "propagation", in: mount.Mount{Type: "bind", Source: "/h", Target: "/c", BindOptions: &mount.BindOptions{Propagation: "x"}}, err: "invalid propagation mode: x"},
		{name: "source of a tmpfs", in: mount.Mount{Type: "tmpfs", Source: "/h", Target: "/c"}, err: "field Source must not be specified"},
		{name: "tmpfs option", in: mount.Mount{Type: "tmpfs", Target: "/c", TmpfsOptions: &mount.TmpfsOptions{Options: [][]string{{"lowerdir", "/"}}}}, err: `invalid tmpfs option "lowerdir=/"`},
		{name: "two options in one", in: mount.Mount{Type: "tmpfs", Target: "/c", TmpfsOptions: &mount.TmpfsOptions{Options: [][]string{{"size", "1,uid=0"}}}}, err: "invalid tmpfs option"},
		{name: "read-only anonymous volume", in: mount.Mount{Type: "volume", Target: "/c", ReadOnly: true}, err: "must not set ReadOnly mode when using anonymous volumes"},
		{name: "subpath outside", in: mount.Mount{Type: "volume", Source: "data", Target: "/c", VolumeOptions: &mount.VolumeOptions{Subpath: "a/../../b"}}, err: "invalid subpath"},
		{name: "absolute subpath", in: mount.Mount{Type: "image", Source: "i", Target: "/c", ImageOptions: &mount.ImageOptions{Subpath: "/etc"}}, err: "invalid subpath"},
		{name: "cluster volume", in: mount.Mount{Type: "cluster", Source: "x", Target: "/c"}, err: "swarm"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := parseMount(tt.in, "")
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) || !errdefs.IsInvalidArgument(err) {
					t.Errorf("error %v, want %s", err, tt.err)
				}
				return
			}
			if err != nil || !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got %+v, %v\nwant %+v", got, err, tt.want)
			}
		})
	}
}

func TestTmpfsOptions(t *testing.T) {
	for _, tt := range []struct{ options, want, err string }{
		{options: "", want: "noexec nosuid nodev"},
		{options: "exec,size=64m,mode=1770,uid=1,gid=2", want: "exec nosuid nodev size=64m mode=1770 uid=1 gid=2"},
		{options: "ro,rw,ro", want: "noexec nosuid nodev ro"},
		{options: "size=1,size=50%", want: "noexec nosuid nodev size=50%"},
		{options: "bind", err: `invalid tmpfs option "bind"`},
		{options: "size", err: `invalid tmpfs option "size"`},
		{options: "size=", err: `invalid tmpfs option "size="`},
		{options: "exec,,ro", err: `invalid tmpfs option ""`},
		{options: "context=x", err: `invalid tmpfs option "context=x"`},
	} {
		t.Run(tt.options, func(t *testing.T) {
			p, err := parseTmpfs("/t", tt.options)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("error %v, want %s", err, tt.err)
				}
				return
			}
			if got := strings.Join(p.TmpfsOptions, " "); err != nil || got != tt.want {
				t.Errorf("got %q, %v; want %q", got, err, tt.want)
			}
		})
	}
}

// targets lists the points as "type target source".
func targets(points []Point) (out []string) {
	for _, p := range points {
		out = append(out, strings.TrimSpace(strings.Join([]string{string(p.Type), p.Target, p.Source + p.Name}, " ")))
	}
	return out
}

func TestParsePrecedence(t *testing.T) {
	other := func(ref string) ([]Point, error) {
		if ref != "other" {
			return nil, errors.New("No such container: " + ref)
		}
		return []Point{
			{Type: "volume", Target: "/shared", Name: "theirs", Mode: "z", Anonymous: true},
			{Type: "bind", Target: "/own", Source: "/theirs"},
			{Type: "tmpfs", Target: "/tmpfs"},
		}, nil
	}
	c := &container.Config{Volumes: map[string]struct{}{"/own": {}, "/image": {}, "/shared/": {}}}
	hc := &container.HostConfig{VolumesFrom: []string{"other:ro"}, Binds: []string{"/mine:/own"}, Tmpfs: map[string]string{"/t": ""}}
	points, err := Parse(c, hc, other)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"volume /image", "bind /own /mine", "volume /shared theirs", "tmpfs /t"}
	if got := targets(points); !slices.Equal(got, want) {
		t.Errorf("points: %q, want %q", got, want)
	}
	if !points[2].ReadOnly || !points[2].NoCopy || points[2].Mode != "" {
		t.Errorf("volumes-from :ro gives %+v", points[2])
	}
}

// Docker shows the mode z for volumes that a client names in Binds or Mounts
// with no mode of their own, and for no other mount.
func TestParseModes(t *testing.T) {
	points, err := Parse(&container.Config{Volumes: map[string]struct{}{"/1": {}}}, &container.HostConfig{
		Binds: []string{"/h:/2", "data:/3", "data:/4:nocopy", "/5"},
		Mounts: []mount.Mount{
			{Type: "volume", Source: "data", Target: "/6"}, {Type: "volume", Target: "/7"}, {Type: "bind", Source: "/h", Target: "/8"},
		},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	var modes []string
	for _, p := range points {
		modes = append(modes, p.API().Mode)
	}
	if want := []string{"", "", "z", "nocopy", "z", "z", "z", ""}; !slices.Equal(modes, want) {
		t.Errorf("modes %q, want %q", modes, want)
	}
}

func TestParseRefuses(t *testing.T) {
	for _, tt := range []struct {
		name, err string
		hc        container.HostConfig
	}{
		{"two binds", "Duplicate mount point: /c", container.HostConfig{Binds: []string{"/a:/c", "/b:/c/"}}},
		{"bind and mount", "Duplicate mount point: /c", container.HostConfig{Binds: []string{"/a:/c"}, Mounts: []mount.Mount{{Type: "tmpfs", Target: "/c"}}}},
		{"bind and tmpfs", "Duplicate mount point: /c", container.HostConfig{Binds: []string{"/a:/c"}, Tmpfs: map[string]string{"/c": ""}}},
		{"empty volumes-from", "volumes-from specification cannot be an empty string", container.HostConfig{VolumesFrom: []string{""}}},
		{"mode of volumes-from", "invalid mode for volumes-from: nocopy", container.HostConfig{VolumesFrom: []string{"x:nocopy"}}},
		{"unknown container", "No such container: x", container.HostConfig{VolumesFrom: []string{"x"}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Parse(&container.Config{}, &tt.hc, func(ref string) ([]Point, error) { return nil, errors.New("No such container: " + ref) })
			if err == nil || err.Error() != tt.err {
				t.Errorf("error %v, want %s", err, tt.err)
			}
		})
	}
}

// sound says what is wrong with a point that was accepted.
func sound(p Point) string {
	switch {
	case !path.IsAbs(p.Target) || path.Clean(p.Target) != p.Target || p.Target == "/":
		return "its target is no clean absolute path"
	case p.Type == mount.TypeBind && !path.IsAbs(p.Source):
		return "its source is not absolute"
	case p.Type == mount.TypeVolume && strings.ContainsAny(p.Name, "/\x00"):
		return "its volume's name is a path"
	case slices.ContainsFunc(p.TmpfsOptions, func(o string) bool { return strings.ContainsAny(o, ",\x00") }):
		return "an option hides another"
	}
	return ""
}

func FuzzParseBind(f *testing.F) {
	for _, s := range []string{"/h:/c:ro", "data:/c", "/c", "a:b:c:d", "\x00:/\x00", "//:/../x:z,Z"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		p, err := parseBind(raw, "")
		if err == nil {
			if bad := sound(p); bad != "" {
				t.Errorf("%q gives %+v: %s", raw, p, bad)
			}
		}
	})
}

func FuzzParseTmpfs(f *testing.F) {
	f.Add("/t", "size=1,exec")
	f.Add("/../..", ",,=,")
	f.Fuzz(func(t *testing.T, target, options string) {
		p, err := parseTmpfs(target, options)
		if err == nil {
			if bad := sound(p); bad != "" {
				t.Errorf("%q %q gives %+v: %s", target, options, p, bad)
			}
		}
	})
}

func FuzzParseMount(f *testing.F) {
	f.Add("bind", "/h", "/c", "a/b", "uid", "rslave")
	f.Add("volume", "data", "/c", "../x", "", "")
	f.Fuzz(func(t *testing.T, typ, source, target, sub, option, propagation string) {
		m := mount.Mount{Type: mount.Type(typ), Source: source, Target: target}
		switch m.Type {
		case mount.TypeBind:
			m.BindOptions = &mount.BindOptions{Propagation: mount.Propagation(propagation)}
		case mount.TypeVolume:
			m.VolumeOptions = &mount.VolumeOptions{Subpath: sub}
		case mount.TypeImage:
			m.ImageOptions = &mount.ImageOptions{Subpath: sub}
		case mount.TypeTmpfs:
			m.TmpfsOptions = &mount.TmpfsOptions{Options: [][]string{{option, sub}}}
		}
		p, err := parseMount(m, "")
		if err == nil {
			if bad := sound(p); bad != "" {
				t.Errorf("%+v gives %+v: %s", m, p, bad)
			}
		}
	})
}
