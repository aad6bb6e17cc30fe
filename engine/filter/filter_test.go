package filter

import (
	"testing"

	"github.com/containerd/errdefs"
)

func TestParse(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		wantErr    bool
		label      string
		matches    bool
	}{
		{name: "nothing", text: "", label: "a", matches: true},
		{name: "list", text: `{"label":["a"]}`, label: "a", matches: true},
		{name: "set of old clients", text: `{"label":{"a":true}}`, label: "b", matches: false},
		{name: "unknown key", text: `{"colour":["a"]}`, wantErr: true},
		{name: "no JSON", text: `{`, wantErr: true},
		{name: "wrong type", text: `{"label":7}`, wantErr: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			args, err := Parse(tt.text, "label")
			if (err != nil) != tt.wantErr {
				t.Fatalf("Parse: %v", err)
			}
			if err != nil {
				if !errdefs.IsInvalidArgument(err) {
					t.Errorf("%v is no invalid argument", err)
				}
				return
			}
			if got := args.Exact("label", tt.label); got != tt.matches {
				t.Errorf("Exact = %v", got)
			}
		})
	}
}

func TestMatch(t *testing.T) {
	args := Args{"name": {"^/web", "*"}, "label": {"a", "b=1"}, "dangling": {"true"}, "both": {"1", "0"}}
	for value, want := range map[string]bool{"/web1": true, "/aweb": false, "*": true} {
		if got := args.Matcher("name")(value); got != want {
			t.Errorf("Matcher(name)(%q) = %v", value, got)
		}
	}
	if !args.Labels("label", map[string]string{"a": "", "b": "1"}) || args.Labels("label", map[string]string{"a": "", "b": "2"}) {
		t.Error("labels do not match by name and value")
	}
	if v, err := args.Bool("dangling", false); err != nil || !v {
		t.Errorf("Bool = %v, %v", v, err)
	}
	if _, err := args.Bool("both", false); err == nil {
		t.Error("true and false at once passed")
	}
}
