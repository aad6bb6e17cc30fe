package apidef

import (
	"strings"
	"testing"
)

func load(t *testing.T, version string) *Definition {
	t.Helper()
	dir, err := Dir()
	if err != nil {
		t.Fatal(err)
	}
	d, err := Load(dir, version, true)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestFind(t *testing.T) {
	d := load(t, "1.56")
	for request, want := range map[string]string{
		"GET /containers/json":            "/containers/json",
		"GET /containers/x/json":          "/containers/{id}/json",
		"GET /images/get":                 "/images/get",
		"GET /images/a.b:5000/c/d/json":   "/images/{name}/json",
		"GET /images/json":                "/images/json",
		"DELETE /images/reg/name:tag":     "/images/{name}",
		"GET /nowhere":                    "",
		"POST /containers/json":           "",
		"GET /containers/json/more":       "",
		"HEAD /containers/x/archive":      "/containers/{id}/archive",
		"POST /plugins/a/b:latest/enable": "/plugins/{name}/enable",
	} {
		method, path, _ := strings.Cut(request, " ")
		got := ""
		if o := d.Find(method, path); o != nil {
			got = o.Path
		}
		if got != want {
			t.Errorf("%s: found %q, want %q", request, got, want)
		}
	}
}

func TestCheck(t *testing.T) {
	o := load(t, "1.56").Find("GET", "/volumes/v")
	volume := func() map[string]any {
		return map[string]any{
			"Name": "v", "Driver": "local", "Mountpoint": "/m", "Scope": "local",
			"Labels": map[string]any{}, "Options": map[string]any{},
		}
	}
	for name, tt := range map[string]struct {
		change func(map[string]any)
		want   string // "" for none
	}{
		"as documented":  {func(map[string]any) {}, ""},
		"a type":         {func(v map[string]any) { v["Driver"] = 1 }, "/Driver"},
		"unknown":        {func(v map[string]any) { v["Colour"] = "red" }, "Colour"},
		"missing":        {func(v map[string]any) { delete(v, "Name") }, "Name"},
		"no such value":  {func(v map[string]any) { v["Scope"] = "galactic" }, "/Scope"},
		"null, nullable": {func(v map[string]any) { v["UsageData"] = nil }, ""},
		"null":           {func(v map[string]any) { v["Name"] = nil }, "/Name"},
		"inside":         {func(v map[string]any) { v["Labels"] = map[string]any{"a": 1} }, "/Labels/a"},
	} {
		v := volume()
		tt.change(v)
		faults, err := o.Check(200, v)
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case tt.want == "" && len(faults) > 0:
			t.Errorf("%s: %q", name, faults)
		case tt.want != "" && (len(faults) != 1 || !strings.Contains(faults[0], tt.want)):
			t.Errorf("%s: %q, want one fault with %q", name, faults, tt.want)
		}
	}
}

func TestEveryVersionLoads(t *testing.T) {
	for _, v := range []string{"1.25", "1.30", "1.40", "1.44", "1.48", "1.51", "1.56"} {
		d := load(t, v)
		for _, o := range d.Operations {
			for _, status := range o.Statuses() {
				if _, err := o.Check(status, map[string]any{}); err != nil {
					t.Errorf("%s: %s %s %d: %v", v, o.Method, o.Path, status, err)
				}
			}
		}
	}
}
