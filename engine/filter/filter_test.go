package filter

import (
	"testing"
	"time"

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

func TestTime(t *testing.T) {
	now := time.Date(2026, 11, 21, 9, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Time{
		"10m":                  now.Add(-10 * time.Minute),
		"1577836800":           time.Unix(1577836800, 0),
		"1577836800.000000001": time.Unix(1577836800, 1),
		"1577836800.5":         time.Unix(1577836800, 500000000),
		"2026-01-02T03:04:05Z": time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
		"2026-01-02":           time.Date(2026, 1, 2, 0, 0, 0, 0, time.Local),
	} {
		if got, err := Time(text, now); err != nil || !got.Equal(want) {
			t.Errorf("Time(%q) = %v, %v; want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "yesterday", "12.x", "1.-5"} {
		if got, err := Time(text, now); err == nil {
			t.Errorf("Time(%q) = %v", text, got)
		}
	}
}

func TestUnixTime(t *testing.T) {
	for text, want := range map[string]time.Time{
		"0":                    time.Unix(0, 0),
		"1700000000":           time.Unix(1700000000, 0),
		"1700000000.5":         time.Unix(1700000000, 500000000),
		"1700000000.000000001": time.Unix(1700000000, 1),
		"-5":                   time.Unix(-5, 0),
	} {
		if got, err := UnixTime(text); err != nil || !got.Equal(want) {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "x", "1.x", "1.-5", "1.0000000001", "2026-01-01", "99999999999999999999", "1e9", " 1"} {
		if got, err := UnixTime(text); err == nil {
			t.Errorf("%q is read as %v", text, got)
		}
	}
}

func TestPruneLabels(t *testing.T) {
	labels := map[string]string{"a": "1", "b": "2"}
	for _, tt := range []struct {
		args Args
		want bool
	}{
		{nil, true},
		{Args{"label": {"a", "b=2"}}, true},
		{Args{"label": {"a", "c"}}, false},
		{Args{"label!": {"a"}}, false},
		{Args{"label!": {"a=2"}}, true},
		{Args{"label!": {"a", "c"}}, true}, // as Docker has it: not both are there
		{Args{"label": {"a"}, "label!": {"b"}}, false},
	} {
		if got := tt.args.PruneLabels(labels); got != tt.want {
			t.Errorf("%v: %v", tt.args, got)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(`{"label":["a=b"]}`)
	f.Add(`{"label":{"a":true}}`)
	f.Fuzz(func(t *testing.T, text string) {
		args, err := Parse(text, "label")
		if err != nil {
			return
		}
		for key := range args {
			if key != "label" {
				t.Errorf("the key %q came through", key)
			}
		}
		args.Labels("label", map[string]string{"a": "b"})
		args.Matcher("label")("a")
		_, _ = args.Bool("label", false)
	})
}

// FuzzTime feeds anything as the filter until.
func FuzzTime(f *testing.F) {
	for _, text := range []string{"24h", "2026-01-02", "2026-01-02T03:04:05Z", "1700000000.5", "1e400"} {
		f.Add(text)
	}
	f.Fuzz(func(_ *testing.T, text string) { _, _ = Time(text, time.Now()) })
}
