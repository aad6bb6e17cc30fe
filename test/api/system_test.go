package api

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

func testPing(t *testing.T, s *server) {
	for _, method := range []string{"GET", "HEAD"} {
		a := s.do(t, method, "/_ping", nil).want(t, http.StatusOK)
		for header, want := range map[string]string{
			"Ostype": "linux", "Docker-Experimental": "false",
			"Cache-Control": "no-cache, no-store, must-revalidate", "Pragma": "no-cache",
		} {
			if got := a.header.Get(header); got != want {
				t.Errorf("%s: %s is %q, want %q", method, header, got, want)
			}
		}
		if !strings.HasPrefix(a.header.Get("Api-Version"), "1.") {
			t.Errorf("%s: Api-Version is %q", method, a.header.Get("Api-Version"))
		}
		if want := map[string]string{"GET": "OK"}[method]; a.body != want {
			t.Errorf("%s: the body is %q", method, a.body)
		}
	}
}

func testVersions(t *testing.T, s *server) {
	var v struct{ APIVersion, MinAPIVersion, Version, Os, Arch, KernelVersion string }
	a := s.do(t, "GET", "/version", nil).want(t, http.StatusOK)
	if err := json.Unmarshal([]byte(a.body), &v); err != nil {
		t.Fatal(err)
	}
	if v.MinAPIVersion != "1.24" || v.Os != "linux" || v.Arch == "" || v.KernelVersion == "" {
		t.Errorf("/version says %+v", v)
	}
	var newest int
	if _, err := fmt.Sscanf(v.APIVersion, "1.%d", &newest); err != nil {
		t.Fatal(err)
	}
	paths := s.everyKind(t)
	for minor := 24; minor <= newest; minor++ {
		for _, path := range paths { // each answer is held against that version's definition
			s.do(t, "GET", fmt.Sprintf("/v1.%d%s", minor, path), nil).want(t, http.StatusOK)
		}
	}
	for _, version := range []string{"1.23", fmt.Sprintf("1.%d", newest+1), "2.0", "0.1"} {
		a := s.do(t, "GET", "/v"+version+"/containers/json", nil).want(t, http.StatusBadRequest)
		if !strings.Contains(a.body, "client version "+version+" is too ") {
			t.Errorf("version %s: %s", version, a.body)
		}
	}
}

// everyKind makes an object of every kind and returns the paths that tell of
// them.
func (s *server) everyKind(t *testing.T) []string {
	var made struct{ ID string }
	decode := func(a answer) string {
		t.Helper()
		if err := json.Unmarshal([]byte(a.want(t, http.StatusCreated).body), &made); err != nil {
			t.Fatal(err)
		}
		return made.ID
	}
	s.do(t, "POST", "/networks/create", object{"Name": "n1", "Labels": object{"a": "b"}}).want(t, http.StatusCreated)
	s.removeLater(t, "/networks/n1")
	s.do(t, "POST", "/volumes/create", object{"Name": "v1", "Labels": object{"a": "b"}}).want(t, http.StatusCreated)
	s.removeLater(t, "/volumes/v1")
	id := s.start(t, object{
		"Cmd": []string{"sleep", "1000"}, "Labels": object{"a": "b"}, "ExposedPorts": object{"80/tcp": object{}},
		"Healthcheck": object{"Test": []string{"CMD", "true"}, "Interval": 1e9},
		"HostConfig": object{
			"NetworkMode": "n1", "Binds": []string{"v1:/v1"}, "ExtraHosts": []string{"h:192.0.2.1"}, "Tmpfs": object{"/t": ""},
			"PortBindings": object{"80/tcp": []object{{"HostIp": "127.0.0.1", "HostPort": ""}}}, "Annotations": object{"a": "b"},
			"Ulimits": []object{{"Name": "nofile", "Soft": 100, "Hard": 200}}, "Sysctls": object{"net.ipv4.ip_forward": "0"},
			"Devices": []object{{"PathOnHost": "/dev/null", "PathInContainer": "/dev/nil", "CgroupPermissions": "rwm"}},
		},
		"NetworkingConfig": object{"EndpointsConfig": object{"n1": object{"Aliases": []string{"other"}}}},
	})
	ended := s.start(t, object{"Cmd": []string{"true"}})
	s.do(t, "POST", "/containers/"+ended+"/wait", nil).want(t, http.StatusOK)
	exec := decode(s.do(t, "POST", "/containers/"+id+"/exec", object{"Cmd": []string{"true"}}))
	image := decode(s.do(t, "POST", "/commit?container="+ended+"&repo=made&author=me&comment=why", object{}))
	s.removeLater(t, "/images/"+image)
	s.do(t, "POST", "/containers/"+id+"/pause", nil)
	s.do(t, "POST", "/containers/"+id+"/unpause", nil)
	return []string{
		"/_ping", "/version", "/info", "/system/df", "/system/df?type=image", "/system/df?verbose=1",
		"/containers/json?all=1&size=1", "/containers/" + id + "/json?size=1", "/containers/" + ended + "/json",
		"/containers/" + id + "/top", "/containers/" + id + "/changes", "/containers/" + ended + "/logs?stdout=1",
		"/exec/" + exec + "/json", "/events?since=1&until=" + strconv.FormatInt(time.Now().Unix()+1, 10),
		"/images/json?all=1&shared-size=1", "/images/" + image + "/json", "/images/made/history",
		"/networks", "/networks/n1", "/networks/none", "/volumes", "/volumes/v1", "/plugins",
	}
}

func testUnknownRoutes(t *testing.T, s *server) {
	for _, path := range []string{"/", "/nowhere", "/v1.44/nowhere", "/containers", "/v1.44", "/containers/x/y/z"} {
		a := s.do(t, "GET", path, nil).want(t, http.StatusNotFound)
		var e struct{ Message string }
		if err := json.Unmarshal([]byte(a.body), &e); err != nil || e.Message == "" {
			t.Errorf("GET %s: no message: %q", path, a.body)
		}
		if !strings.HasPrefix(a.header.Get("Content-Type"), "application/json") {
			t.Errorf("GET %s: Content-Type %q", path, a.header.Get("Content-Type"))
		}
	}
}

func testBadBodies(t *testing.T, s *server) {
	for _, test := range []struct {
		method, path, body string
		status             int
	}{
		{"POST", "/containers/create", `{`, 400},
		{"POST", "/containers/create", ``, 400},
		{"POST", "/containers/create", `[]`, 400},
		{"POST", "/containers/create", `{"Image":"busybox"} trailing`, 400},
		{"POST", "/containers/create", `{"Image":"busybox","HostConfig":{"Memory":"much"}}`, 400},
		{"POST", "/containers/create", `{"Image":"busybox","HostConfig":{"Memory":-5}}`, 400},
		{"POST", "/containers/create?name=%2F..%2Fx", `{"Image":"busybox"}`, 400},
		{"POST", "/containers/create", `{"Image":"../../etc"}`, 400},
		{"POST", "/containers/create", `{"Image":"busybox","HostConfig":{"Binds":["/a:/b:rw,ro"]}}`, 400},
		{"POST", "/containers/create", `{"Image":"busybox","StopSignal":"NOSUCH"}`, 400},
		{"POST", "/volumes/create", `{"Name":"../x"}`, 400},
		{"POST", "/volumes/create", `{`, 400},
		{"GET", "/containers/json?filters={", ``, 400},
		{"GET", "/containers/json?limit=x", ``, 400},
		{"GET", "/images/json?filters=%7B%22nosuch%22%3A%5B%22a%22%5D%7D", ``, 400},
		{"GET", "/events?since=yesterdayish", ``, 400},
		{"POST", "/containers/nobody/start", ``, 404},
		{"POST", "/exec/nobody/start", `{}`, 404},
		{"DELETE", "/images/nothing", ``, 404},
		{"GET", "/images/UPPER/json", ``, 400},
		{"PUT", "/containers/nobody/archive?path=/", ``, 404},
		{"POST", "/commit?container=nobody", `{}`, 404},
		{"POST", "/images/load", `not a tar`, 400},
	} {
		a := s.do(t, test.method, test.path, test.body)
		if a.status != test.status {
			t.Errorf("%s %s %s: %d, want %d: %s", test.method, test.path, test.body, a.status, test.status, a.body)
		}
	}
}

// testEmptyLists holds that what is empty is [] and not null: clients of other
// languages iterate over it.
func testEmptyLists(t *testing.T, s *server) {
	for path, want := range map[string]string{
		"/containers/json":     `[]`,
		"/volumes":             `"Volumes":[]`,
		"/containers/json?all": `[]`,
	} {
		if a := s.do(t, "GET", path, nil).want(t, http.StatusOK); !strings.Contains(a.body, want) {
			t.Errorf("GET %s: no %s in %s", path, want, a.body)
		}
	}
	id := s.create(t, object{"Cmd": []string{"true"}})
	a := s.do(t, "GET", "/containers/json?all=1", nil).want(t, http.StatusOK)
	for _, want := range []string{`"Ports":[]`, `"Mounts":[]`, `"Labels":{}`} {
		if !strings.Contains(a.body, want) {
			t.Errorf("the list has no %s: %s", want, a.body)
		}
	}
	a = s.do(t, "GET", "/containers/"+id+"/json", nil).want(t, http.StatusOK)
	for _, want := range []string{`"Mounts":[]`, `"ExecIDs":null`} {
		if !strings.Contains(a.body, want) {
			t.Errorf("inspect has no %s: %s", want, a.body)
		}
	}
}

// testParallel runs whole lifecycles at once, and contending operations on
// one container: each must end in a success or in Docker's own refusal.
func testParallel(t *testing.T, s *server) {
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			id := s.start(t, object{"Cmd": []string{"sleep", "1000"}})
			s.do(t, "POST", "/containers/"+id+"/stop?t=0", nil).want(t, http.StatusNoContent)
			s.do(t, "DELETE", "/containers/"+id, nil).want(t, http.StatusNoContent)
		})
	}
	all.Wait()
	id := s.create(t, object{"Cmd": []string{"sleep", "1000"}})
	for i := range 24 {
		all.Go(func() {
			op := []string{"start", "stop?t=0", "restart?t=0", "kill", "pause", "unpause"}[i%6]
			if a := s.do(t, "POST", "/containers/"+id+"/"+op, nil); a.status >= 500 {
				t.Errorf("%s: %d: %s", op, a.status, a.body)
			}
		})
	}
	all.Wait()
	s.do(t, "DELETE", "/containers/"+id+"?force=1", nil).want(t, http.StatusNoContent)
}
