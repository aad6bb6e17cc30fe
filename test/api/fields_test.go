package api

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
)

// testFields creates containers with fields that the docker client does not
// set, or sets in one way only, and looks at what a user would see: the output
// of the container, or what inspecting it tells.
func testFields(t *testing.T, s *server) {
	s.do(t, "POST", "/networks/create", object{"Name": "fields"}).want(t, http.StatusCreated)
	s.removeLater(t, "/networks/fields")
	s.removeLater(t, "/volumes/labelled?force=1")
	sh := func(script string) []string { return []string{"sh", "-c", script} }
	host := func(h object) object {
		if h["NetworkMode"] == nil {
			h["NetworkMode"] = "none"
		}
		return h
	}
	for _, row := range []struct {
		name   string
		config object
		output string // of the container
	}{
		{"network disabled", object{"NetworkDisabled": true, "HostConfig": object{}, "Cmd": sh("ls /sys/class/net | grep -v lo; echo end")}, "end\n"},
		{"console size", object{"Tty": true, "HostConfig": host(object{"ConsoleSize": []int{33, 77}}), "Cmd": sh("stty size")}, "33 77\r\n"},
		{"DNS options", object{"HostConfig": object{"DnsOptions": []string{"ndots:9"}}, "Cmd": sh("grep -o ndots:9 /etc/resolv.conf")}, "ndots:9\n"},
		{"DNS on a network", object{"HostConfig": object{"NetworkMode": "fields", "DnsOptions": []string{"ndots:8"}}, "Cmd": sh("grep -o ndots:8 /etc/resolv.conf")}, "ndots:8\n"},
		{"umask", object{"HostConfig": host(object{"Umask": 0o27}), "Cmd": sh("umask")}, "0027\n"},
		{"masked", object{"HostConfig": host(object{"MaskedPaths": []string{"/etc/passwd"}}), "Cmd": sh("wc -c < /etc/passwd")}, "0\n"},
		{"nothing masked", object{"HostConfig": host(object{"MaskedPaths": []string{}}), "Cmd": sh("mount | grep -c '/proc/k' || true")}, "0\n"},
		{"read-only", object{"HostConfig": host(object{"ReadonlyPaths": []string{"/var"}}), "Cmd": sh("touch /var/x 2>/dev/null || echo refused")}, "refused\n"},
		{"tmpfs options", object{"HostConfig": host(object{"Mounts": []object{{
			"Type": "tmpfs", "Target": "/t", "TmpfsOptions": object{"Options": [][]string{{"noexec"}}, "Mode": 0o700},
		}}}), "Cmd": sh("stat -c %a /t; grep ' /t ' /proc/mounts | grep -o noexec")}, "700\nnoexec\n"},
		{"volume's driver", object{"HostConfig": host(object{"Mounts": []object{{
			"Type": "volume", "Source": "labelled", "Target": "/v",
			"VolumeOptions": object{"Labels": object{"a": "b"}, "DriverConfig": object{
				"Name": "local", "Options": object{"type": "tmpfs", "device": "tmpfs", "o": "mode=750"},
			}},
		}}}), "Cmd": sh("stat -c %a /v")}, "750\n"},
		{"memory of a device", object{"HostConfig": host(object{"Devices": []object{{
			"PathOnHost": "/dev/zero", "PathInContainer": "/dev/nil", "CgroupPermissions": "r",
		}}}), "Cmd": sh("head -c 3 /dev/nil | wc -c")}, "3\n"},
	} {
		if got := s.output(t, row.config); got != row.output {
			t.Errorf("%s: the container says %q, want %q", row.name, got, row.output)
		}
	}
	if a := s.do(t, "GET", "/volumes/labelled", nil).want(t, http.StatusOK); !strings.Contains(a.body, `"Labels":{"a":"b"}`) {
		t.Errorf("the volume's labels: %s", a.body)
	}
	refused := object{"Image": "busybox", "HostConfig": object{"VolumeDriver": "nosuch", "Binds": []string{"refused:/v"}}}
	if a := s.do(t, "POST", "/containers/create", refused).want(t, http.StatusBadRequest); !strings.Contains(a.body, "error looking up volume plugin nosuch") {
		t.Errorf("VolumeDriver: %s", a.body)
	}
}

// output runs a container to its end and returns what it wrote.
func (s *server) output(t *testing.T, config object) string {
	t.Helper()
	id := s.create(t, config)
	s.do(t, "POST", "/containers/"+id+"/start", nil).want(t, http.StatusNoContent)
	s.do(t, "POST", "/containers/"+id+"/wait", nil).want(t, http.StatusOK)
	a := s.do(t, "GET", "/containers/"+id+"/logs?stdout=1&stderr=1", nil).want(t, http.StatusOK)
	if tty, _ := config["Tty"].(bool); tty {
		return a.body
	}
	var text strings.Builder
	for b := a.body; len(b) >= 8; {
		size := int(b[4])<<24 | int(b[5])<<16 | int(b[6])<<8 | int(b[7])
		text.WriteString(b[8 : 8+size])
		b = b[8+size:]
	}
	return text.String()
}

// testHealthFields holds that a check runs in the container's own shell, and
// often while the container starts.
func testHealthFields(t *testing.T, s *server) {
	id := s.start(t, object{
		"Cmd": []string{"sleep", "1000"}, "Shell": []string{"/bin/sh", "-xc"},
		"Healthcheck": object{
			"Test": []string{"CMD-SHELL", "true it is"}, "Interval": int64(3600e9),
			"StartPeriod": int64(600e9), "StartInterval": int64(20e6),
		},
	})
	var c struct {
		State struct {
			Health struct{ Log []struct{ Output string } }
		}
	}
	s.until(t, "the check has run", func() bool {
		a := s.do(t, "GET", "/containers/"+id+"/json", nil).want(t, http.StatusOK)
		if err := json.Unmarshal([]byte(a.body), &c); err != nil {
			t.Fatal(err)
		}
		return len(c.State.Health.Log) > 0 // an hour before its time
	})
	if out := c.State.Health.Log[0].Output; out != "+ true it is\n" {
		t.Errorf("the check says %q: it does not run in the container's shell", out)
	}
}
