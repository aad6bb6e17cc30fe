package apiserver

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/registry"
	"github.com/moby/moby/api/types/system"
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
		"1.24": {"ExecutionDriver": true, "RuncCommit.Expected": true, "BridgeNfIptables": true},
	} {
		s := shape(t, infoFor(at(version, ""), info))
		for path, there := range want {
			first, second, nested := strings.Cut(path, ".")
			v, ok := s[first]
			if nested {
				_, ok = v.(map[string]any)[second]
			}
			if ok != there {
				t.Errorf("%s: %s: there is %v, want %v", version, path, ok, there)
			}
		}
	}
	s := shape(t, infoFor(at("1.24", ""), info))
	if got := s["SecurityOptions"].([]any); len(got) != 2 || got[0] != "seccomp" || got[1] != "rootless" {
		t.Errorf("1.24: security options %v", got)
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

func TestParseTime(t *testing.T) {
	for text, want := range map[string]time.Time{
		"":                     {},
		"0":                    time.Unix(0, 0),
		"1700000000":           time.Unix(1700000000, 0),
		"1700000000.5":         time.Unix(1700000000, 500000000),
		"1700000000.000000001": time.Unix(1700000000, 1),
		"-5":                   time.Unix(-5, 0),
	} {
		if got, err := parseTime(text); err != nil || !got.Equal(want) {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"x", "1.x", "1.-5", "1.0000000001", "2026-01-01", "99999999999999999999", "1e9", " 1"} {
		if got, err := parseTime(text); err == nil {
			t.Errorf("%q is read as %v", text, got)
		}
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

func FuzzParseTime(f *testing.F) {
	f.Add("1700000000.5")
	f.Fuzz(func(t *testing.T, text string) {
		if got, err := parseTime(text); err == nil && got.IsZero() && text != "" {
			t.Errorf("%q", text)
		}
	})
}
