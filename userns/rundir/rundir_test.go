package rundir

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestMakePrivate(t *testing.T) {
	tests := []struct {
		name string
		make func(t *testing.T, parent string) (dir string)
		bad  string // part of the error
	}{
		{"new", func(_ *testing.T, p string) string { return filepath.Join(p, "kelp") }, ""},
		{"ours", func(t *testing.T, p string) string { return mkdir(t, filepath.Join(p, "kelp"), 0o700) }, ""},
		{"open to others", func(t *testing.T, p string) string { return mkdir(t, filepath.Join(p, "kelp"), 0o750) }, "chmod 700"},
		{"world-writable", func(t *testing.T, p string) string { return mkdir(t, filepath.Join(p, "kelp"), 0o1777) }, "chmod 700"},
		{"a link", func(t *testing.T, p string) string {
			mkdir(t, filepath.Join(p, "real"), 0o700)
			return symlink(t, "real", filepath.Join(p, "kelp"))
		}, "not a directory"},
		{"a dangling link", func(t *testing.T, p string) string { return symlink(t, "nowhere", filepath.Join(p, "kelp")) }, "not a directory"},
		{"a file", func(t *testing.T, p string) string {
			dir := filepath.Join(p, "kelp")
			if err := os.WriteFile(dir, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			return dir
		}, "not a directory"},
		{"in a directory where everybody may rename", func(t *testing.T, p string) string {
			return filepath.Join(mkdir(t, filepath.Join(p, "open"), 0o777), "kelp")
		}, "may replace"},
		{"in a directory as /tmp", func(t *testing.T, p string) string {
			return filepath.Join(mkdir(t, filepath.Join(p, "tmp"), 0o1777), "kelp")
		}, ""},
		{"in no directory", func(_ *testing.T, p string) string { return filepath.Join(p, "none", "kelp") }, "no such file"},
		{"too long", func(t *testing.T, p string) string {
			return filepath.Join(mkdir(t, filepath.Join(p, strings.Repeat("x", 100)), 0o700), "kelp")
		}, "shorter path"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			parent, err := os.MkdirTemp("", "k") // t.TempDir is too long for a socket
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { os.RemoveAll(parent) })
			dir := tt.make(t, parent)
			err = MakePrivate(dir)
			if tt.bad != "" {
				if err == nil || !strings.Contains(err.Error(), tt.bad) {
					t.Errorf("got %v, want %q", err, tt.bad)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if st, err := os.Lstat(dir); err != nil || st.Mode() != os.ModeDir|0o700 {
				t.Errorf("it is %v, %v", st.Mode(), err)
			}
		})
	}
}

func mkdir(t *testing.T, dir string, mode uint32) string {
	t.Helper()
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	m := os.FileMode(mode & 0o777)
	if mode&0o1000 != 0 {
		m |= os.ModeSticky
	}
	if err := os.Chmod(dir, m); err != nil {
		t.Fatal(err)
	}
	return dir
}

func symlink(t *testing.T, target, link string) string {
	t.Helper()
	if err := os.Symlink(target, link); err != nil {
		t.Fatal(err)
	}
	return link
}

func TestRuntimeChoosesWhatIsUsable(t *testing.T) {
	parent := t.TempDir()
	t.Setenv("XDG_RUNTIME_DIR", parent)
	if dir, err := Runtime(); err != nil || dir != filepath.Join(parent, "kelp") {
		t.Errorf("got %s, %v", dir, err)
	}
	for _, x := range []string{"", "relative", filepath.Join(parent, "gone")} {
		t.Setenv("XDG_RUNTIME_DIR", x)
		if dir, _ := Runtime(); !strings.HasPrefix(dir, "/tmp/kelp-") {
			t.Errorf("with XDG_RUNTIME_DIR=%s: %s", x, dir)
		}
	}
}

func TestCheckSocketPath(t *testing.T) {
	for path, bad := range map[string]bool{
		"/run/kelp/docker.sock":        false,
		"/" + strings.Repeat("x", 106): false,
		"/" + strings.Repeat("x", 107): true,
		"/run/a\nb":                    true,
		"/run/a\x1b[31mb":              true,
	} {
		if err := CheckSocketPath(path); (err != nil) != bad {
			t.Errorf("%q: %v", path, err)
		}
	}
}
