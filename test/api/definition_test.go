package api

import (
	"encoding/json"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/kelp-engine/kelp/test/apidef"
	"github.com/kelp-engine/kelp/test/coverage"
	"github.com/kelp-engine/kelp/test/harness"
)

func definition(t *testing.T) (*apidef.Definition, map[string]coverage.Fate) {
	t.Helper()
	d, err := apidef.Load(harness.Definitions(), apidef.Newest, true)
	if err != nil {
		t.Fatal(err)
	}
	fates, err := coverage.Table()
	if err != nil {
		t.Fatal(err)
	}
	return d, fates
}

var variable = regexp.MustCompile(`\{[a-z]+\}`)

// sample is a request of an endpoint, for objects that are not there.
func sample(o *apidef.Operation) string {
	path := variable.ReplaceAllString(o.Path, "nobody")
	if o.Path == "/events" {
		path += "?since=1&until=2"
	}
	return path
}

// testEveryEndpoint holds that all that the API defines is routed, and that
// what is not offered says so in the words of the table.
func testEveryEndpoint(t *testing.T, s *server) {
	d, fates := definition(t)
	for _, o := range d.Operations {
		a := s.do(t, o.Method, sample(o), nil)
		fate := fates[o.Method+" "+o.Path]
		if strings.Contains(a.body, "page not found") || a.status == http.StatusMethodNotAllowed {
			t.Errorf("%s %s is not routed: %d %s", o.Method, o.Path, a.status, a.body)
		}
		if fate.Kind != coverage.Absent || strings.HasPrefix(o.Path, "/images/") || strings.HasPrefix(o.Path, "/volumes/") {
			continue // the latter want an object that is there
		}
		if a.status != fate.Status || !strings.Contains(a.body, fate.Text) {
			t.Errorf("%s %s: %d %s, want %d with %q", o.Method, o.Path, a.status, a.body, fate.Status, fate.Text)
		}
	}
	s.do(t, "POST", "/volumes/create", object{"Name": "absent"}).want(t, http.StatusCreated)
	s.removeLater(t, "/volumes/absent")
	for name, path := range map[string]string{
		"PUT /volumes/{name}":             "/volumes/absent",
		"GET /images/{name}/attestations": "/images/busybox/attestations",
	} {
		method, _, _ := strings.Cut(name, " ")
		if a := s.do(t, method, path, object{}).want(t, fates[name].Status); !strings.Contains(a.body, fates[name].Text) {
			t.Errorf("%s: %s", name, a.body)
		}
	}
}

// bodies that are right but for the field under test.
var bodies = map[string]object{
	"POST /containers/create":     {"Image": "busybox", "HostConfig": object{"NetworkMode": "bridge"}},
	"POST /networks/create":       {"Name": "refused"},
	"POST /volumes/create":        {"Name": "refused"},
	"POST /networks/{id}/connect": {"Container": "nobody"},
}

// testRefusals sends each parameter and field that the table says is refused.
func testRefusals(t *testing.T, s *server) {
	d, fates := definition(t)
	for _, r := range coverage.Rows(d, fates) {
		if r.Kind != coverage.Refused {
			continue
		}
		path, body := sample(r.Operation), any(nil)
		if r.Parameter != "" {
			path = strings.Replace(path, "nobody", s.create(t, object{}), 1) + "?" + r.Parameter + "=" + url.QueryEscape(r.Value)
		} else {
			var value any
			if err := json.Unmarshal([]byte(r.Value), &value); err != nil {
				t.Fatalf("%s: %v", r.Name, err)
			}
			body = with(bodies[r.Operation.Method+" "+r.Operation.Path], r.Path, value)
		}
		if a := s.do(t, r.Operation.Method, path, body); a.status != r.Status || !strings.Contains(a.body, r.Text) {
			t.Errorf("%s: %d %s, want %d with %q", r.Name, a.status, a.body, r.Status, r.Text)
		}
	}
}

// with returns in with a value at the end of a path.
func with(in any, path []string, value any) any {
	if len(path) == 0 {
		return value
	}
	switch path[0] {
	case "[]":
		return []any{with(nil, path[1:], value)}
	case "{}":
		return object{"bridge": with(nil, path[1:], value)}
	}
	out := object{}
	if old, ok := in.(object); ok {
		for k, v := range old {
			out[k] = v
		}
	}
	out[path[0]] = with(out[path[0]], path[1:], value)
	return out
}

// values of filters that take no text.
var filterValues = map[string]string{
	"dangling": "true", "all": "true", "is-task": "false", "exited": "0", "health": "healthy", "status": "running", "publish": "80",
	"expose": "80", "until": "1s", "type": "custom", "is-official": "true", "stars": "1", "scope": "local",
}

var filterKey = regexp.MustCompile("(?m)^\\s*- `([a-z.-]+)[`=]")

// testDocumentedFilters holds that each filter that the definition names in
// its text is known, and that another is refused.
func testDocumentedFilters(t *testing.T, s *server) {
	d, _ := definition(t)
	for _, o := range d.Operations {
		i := slices.IndexFunc(o.Parameters, func(p apidef.Parameter) bool { return p.Name == "filters" })
		if i < 0 || !slices.Contains([]string{"Container", "Image", "Volume", "Network", "System"}, o.Tag) || strings.HasPrefix(o.Path, "/build") || o.Path == "/images/search" {
			continue
		}
		keys := filterKey.FindAllStringSubmatch(o.Parameters[i].Description, -1)
		if len(keys) == 0 {
			t.Errorf("%s %s: no filters are found in %q", o.Method, o.Path, o.Parameters[i].Description)
		}
		for _, k := range append(keys, []string{"", "no-such-filter"}) {
			value := filterValues[k[1]]
			if value == "" {
				value = "busybox"
			}
			if k[1] == "type" && o.Path == "/events" {
				value = "container"
			}
			if slices.Contains([]string{"before", "since"}, k[1]) && o.Tag == "Container" {
				value = s.create(t, object{})
			}
			f, err := json.Marshal(map[string][]string{k[1]: {value}})
			if err != nil {
				t.Fatal(err)
			}
			path := sample(o) + "?"
			if strings.Contains(sample(o), "?") {
				path = sample(o) + "&"
			}
			want := http.StatusOK
			if k[1] == "no-such-filter" {
				want = http.StatusBadRequest
			}
			if a := s.do(t, o.Method, path+"filters="+url.QueryEscape(string(f)), nil); a.status != want {
				t.Errorf("%s %s: filter %s: %d %s", o.Method, o.Path, k[1], a.status, a.body)
			}
		}
	}
}
