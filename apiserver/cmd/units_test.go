package cmd

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestUnits(t *testing.T) {
	s := settings{DataRoot: `/d/50%/a "b" $c\d`, Socket: "/run/user/1000/kelp/docker.sock"}
	s.Log.Level = "debug"
	u := units("/usr/bin/kelp", s, "/run/user/1000")
	for setting, command := range map[string]string{"ExecStart": "daemon", "ExecReload": "restart"} {
		want := setting + `="/usr/bin/kelp" "` + command + `" "--data-root" "/d/50%%/a \"b\" $$c\\d" "--socket" "/run/user/1000/kelp/docker.sock" "--log-level" "debug"` + "\n"
		if !strings.Contains(u[serviceUnit], want) {
			t.Errorf("got\n%s\nwant %s", u[serviceUnit], want)
		}
	}
	if !strings.Contains(u[socketUnit], "ListenStream=%t/kelp/docker.sock\n") {
		t.Errorf("got\n%s", u[socketUnit])
	}
	s.Socket = "/srv/100%/s"
	if u := units("/usr/bin/kelp", s, "/run/user/1000"); !strings.Contains(u[socketUnit], "ListenStream=/srv/100%%/s\n") {
		t.Errorf("got\n%s", u[socketUnit])
	}
}

func TestWriteUnits(t *testing.T) {
	config := t.TempDir()
	t.Setenv("XDG_CONFIG_HOME", config)
	s := settings{DataRoot: "/d", Socket: "/s"}
	for i, want := range []bool{true, false} {
		if changed, err := writeUnits(s); err != nil || changed != want {
			t.Errorf("time %d: %v, %v", i+1, changed, err)
		}
	}
	s.Socket = "/t"
	if changed, err := writeUnits(s); err != nil || !changed {
		t.Errorf("with another socket: %v, %v", changed, err)
	}
	own := filepath.Join(config, "systemd", "user", serviceUnit)
	if err := os.WriteFile(own, []byte("[Service]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := writeUnits(s); err == nil || !strings.Contains(err.Error(), "was not made by kelp") {
		t.Errorf("the user's own unit: %v", err)
	}
	if b, err := os.ReadFile(own); err != nil || string(b) != "[Service]\n" {
		t.Errorf("the user's own unit now is %q, %v", b, err)
	}
}
