package apiserver

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	imagetypes "github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/registry"
	"github.com/moby/moby/api/types/system"

	"github.com/kelp-engine/kelp/image"
)

func at(version, query string) *request {
	values, err := url.ParseQuery(query)
	if err != nil {
		panic(err)
	}
	return &request{version: version, values: values}
}

// shape encodes v and returns its members.
func shape(t *testing.T, v any) map[string]any {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	m := map[string]any{}
	if err := json.Unmarshal(b, &m); err != nil {
		t.Fatal(err)
	}
	return m
}

// hasMember says whether there is "member" or "member.member".
func hasMember(s map[string]any, path string) bool {
	first, second, nested := strings.Cut(path, ".")
	v, ok := s[first]
	if nested && ok {
		_, ok = v.(map[string]any)[second]
	}
	return ok
}

func TestEventShapes(t *testing.T) {
	m := events.Message{Type: events.ContainerEventType, Action: "start", Actor: events.Actor{ID: "c1", Attributes: map[string]string{"image": "app"}}}
	if s := shape(t, eventFor(at("1.52", ""), m)); s["status"] != nil || s["Action"] != "start" {
		t.Errorf("1.52: %v", s)
	}
	if s := shape(t, eventFor(at("1.51", ""), m)); s["status"] != "start" || s["id"] != "c1" || s["from"] != "app" || s["Action"] != "start" {
		t.Errorf("1.51: %v", s)
	}
	m.Type = events.NetworkEventType
	if s := shape(t, eventFor(at("1.24", ""), m)); s["status"] != nil || s["id"] != nil {
		t.Errorf("1.24, of a network: %v", s)
	}
}

func TestInfoShapes(t *testing.T) {
	info := system.Info{
		RuncCommit:      system.Commit{ID: "1.5"},
		SecurityOptions: []string{"name=seccomp,profile=builtin", "name=rootless"},
		RegistryConfig:  &registry.ServiceConfig{Mirrors: []string{}},
	}
	for version, want := range map[string]map[string]bool{
		"1.56": {"BridgeNfIptables": false, "ExecutionDriver": false, "RuncCommit.Expected": false, "RegistryConfig.AllowNondistributableArtifactsCIDRs": false},
		"1.49": {"BridgeNfIptables": true, "BridgeNfIp6tables": true, "ExecutionDriver": false, "RuncCommit.Expected": false},
		"1.48": {"BridgeNfIptables": true, "RuncCommit.Expected": true, "RuncCommit.ID": true, "RegistryConfig.AllowNondistributableArtifactsCIDRs": true, "RegistryConfig.Mirrors": true},
		"1.42": {"KernelMemory": false},
		"1.41": {"KernelMemory": true, "KernelMemoryTCP": true},
		"1.24": {"ExecutionDriver": true, "RuncCommit.Expected": true, "BridgeNfIptables": true},
	} {
		s := shape(t, infoFor(at(version, ""), info))
		for path, there := range want {
			if hasMember(s, path) != there {
				t.Errorf("%s: %s: there is %v, want %v", version, path, !there, there)
			}
		}
	}
	s := shape(t, infoFor(at("1.24", ""), info))
	if got := s["SecurityOptions"].([]any); len(got) != 2 || got[0] != "seccomp" || got[1] != "rootless" {
		t.Errorf("1.24: security options %v", got)
	}
}

func TestImageShapes(t *testing.T) {
	im := imagetypes.InspectResponse{ID: "sha256:1", Size: 7, Config: &dockerspec.DockerOCIImageConfig{}}
	made := &image.Image{Parent: "sha256:0", DockerVersion: "20"}
	for version, want := range map[string]map[string]bool{
		"1.51": {"Parent": true, "Author": true, "Config.Cmd": true, "Config.Hostname": false, "Container": false, "VirtualSize": false, "Created": false},
		"1.49": {"Config.Hostname": true, "Config.Tty": true, "Config.Env": true, "ContainerConfig": false},
		"1.44": {"Container": true, "ContainerConfig.Image": true, "Created": false},
		"1.43": {"VirtualSize": true, "Created": true, "DockerVersion": true},
	} {
		s := shape(t, imageFor(at(version, ""), im, made))
		for path, there := range want {
			if hasMember(s, path) != there {
				t.Errorf("%s: %s: there is %v, want %v", version, path, !there, there)
			}
		}
		if s["Parent"] != "sha256:0" || s["DockerVersion"] != "20" {
			t.Errorf("%s: %v", version, s)
		}
	}
	list := []imagetypes.Summary{
		{ID: "sha256:1", Size: 7, RepoTags: []string{}, RepoDigests: []string{}},
		{ID: "sha256:2", Size: 7, RepoTags: []string{"a:b"}, RepoDigests: []string{}},
	}
	for version, want := range map[string]string{
		"1.44": `"RepoDigests":[],"RepoTags":[]`, "1.43": `"VirtualSize":7`,
		"1.42": `"RepoDigests":["<none>@<none>"],"RepoTags":["<none>:<none>"]`, "1.24": `"RepoDigests":[],"RepoTags":["a:b"]`,
	} {
		var text strings.Builder
		enc := json.NewEncoder(&text)
		enc.SetEscapeHTML(false)
		if err := enc.Encode(imagesFor(at(version, ""), list)); err != nil || !strings.Contains(text.String(), want) {
			t.Errorf("%s: no %s in %s", version, want, text.String())
		}
	}
}

func TestContainerShapes(t *testing.T) {
	const id = "0123456789abcdef"
	full := func() *container.InspectResponse {
		return &container.InspectResponse{
			ID: id, Config: &container.Config{Hostname: "host"},
			NetworkSettings: &container.NetworkSettings{Networks: map[string]*network.EndpointSettings{
				"bridge": {EndpointID: "e", MacAddress: network.HardwareAddr{2, 0, 0, 0, 0, 1}}, "mine": {Aliases: []string{"web"}},
			}},
		}
	}
	for version, want := range map[string]map[string]bool{
		"1.52": {"NetworkSettings.EndpointID": false, "Config.OnBuild": false, "Config.MacAddress": false},
		"1.51": {"NetworkSettings.EndpointID": true, "NetworkSettings.Bridge": true, "Config.OnBuild": true, "Config.MacAddress": false},
		"1.43": {"Config.MacAddress": true, "NetworkSettings.MacAddress": true},
	} {
		s := shape(t, inspectFor(at(version, ""), full()))
		for path, there := range want {
			if hasMember(s, path) != there {
				t.Errorf("%s: %s: there is %v, want %v", version, path, !there, there)
			}
		}
	}
	for version, want := range map[string]int{"1.45": 1, "1.44": 3} {
		i := full()
		s := shape(t, inspectFor(at(version, ""), i))
		nets := s["NetworkSettings"].(map[string]any)["Networks"].(map[string]any)
		if got := nets["mine"].(map[string]any)["Aliases"].([]any); len(got) != want {
			t.Errorf("%s: aliases %v", version, got)
		}
		if nets["bridge"].(map[string]any)["Aliases"] != nil || len(i.NetworkSettings.Networks["mine"].Aliases) != 1 {
			t.Errorf("%s: the shape changed what it must not", version)
		}
	}
}

func TestContainerRowShapes(t *testing.T) {
	rows := []container.Summary{{Health: &container.HealthSummary{}, Ports: []container.PortSummary{{PrivatePort: 80, Type: "tcp"}}}}
	rows[0].HostConfig.Annotations = map[string]string{"a": "b"}
	for version, want := range map[string]map[string]bool{
		"1.52": {"Health": true, "HostConfig.Annotations": true},
		"1.51": {"Health": false, "HostConfig.Annotations": true},
		"1.45": {"Health": false, "HostConfig.Annotations": false},
	} {
		s := shape(t, map[string]any{"rows": containersFor(at(version, ""), rows)})
		row := s["rows"].([]any)[0].(map[string]any)
		for path, there := range want {
			if hasMember(row, path) != there {
				t.Errorf("%s: %s: there is %v, want %v", version, path, !there, there)
			}
		}
		if port := row["Ports"].([]any)[0].(map[string]any); hasMember(port, "IP") != (version == "1.52") || port["PrivatePort"] != 80.0 {
			t.Errorf("%s: a port that is not published: %v", version, port)
		}
	}
}

func TestDiskUsageShapes(t *testing.T) {
	usage := system.DiskUsage{ContainerUsage: &container.DiskUsage{TotalCount: 1, Items: []container.Summary{{ID: "c"}}}}
	for _, row := range []struct {
		version, query   string
		old, next, items bool
	}{
		{"1.51", "", true, false, false},
		{"1.52", "", true, true, false},
		{"1.52", "verbose=1", false, true, true},
		{"1.53", "", false, true, false},
		{"1.53", "verbose=1", false, true, true},
	} {
		s := shape(t, diskUsageFor(at(row.version, row.query), usage))
		_, old := s["Containers"]
		u, next := s["ContainerUsage"].(map[string]any)
		_, items := u["Items"]
		if old != row.old || next != row.next || items != row.items {
			t.Errorf("%s %s: old %v, new %v, items %v: %v", row.version, row.query, old, next, items, s)
		}
	}
	if usage.ContainerUsage.Items == nil {
		t.Error("the shape changed what it was made of")
	}
}

func TestNegotiate(t *testing.T) {
	for accept, want := range map[string]string{
		"":                     "d",
		"a/a":                  "a/a",
		"b/b;q=0.5, a/a;q=0.4": "b/b",
		"x/x, a/a;q=0.1":       "a/a",
		"*/*":                  "d",
		"a/a;q=zero, ;":        "d",
	} {
		if got := negotiate(http.Header{"Accept": {accept}}, "d", "a/a", "b/b"); got != want {
			t.Errorf("%q: %q, want %q", accept, got, want)
		}
	}
}
