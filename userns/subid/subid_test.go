package subid

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestReadFile(t *testing.T) {
	tests := []struct {
		name, file string
		want       []Range
	}{
		{name: "empty"},
		{name: "two users", file: "a:100000:65536\n1001:165536:65536\n", want: []Range{{"a", 100000, 65536}, {"1001", 165536, 65536}}},
		{name: "comments and blanks", file: "# x\n\n  a:1:2  \n", want: []Range{{"a", 1, 2}}},
		{name: "no end of line", file: "a:1:2", want: []Range{{"a", 1, 2}}},
		{name: "the last id", file: "a:4294967295:1\n", want: []Range{{"a", 4294967295, 1}}},
		{name: "too many fields", file: "a:1:2:3\n"},
		{name: "no user", file: ":1:2\n"},
		{name: "no ids", file: "a:1:0\n"},
		{name: "past the last id", file: "a:4294967295:2\n"},
		{name: "negative", file: "a:-1:2\n"},
		{name: "huge", file: "a:1:99999999999999999999\n"},
		{name: "text", file: "a:b:c\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "subuid")
			if err := os.WriteFile(path, []byte(tt.file), 0o600); err != nil {
				t.Fatal(err)
			}
			got, err := ReadFile(path)
			if err != nil || !slices.Equal(got, tt.want) {
				t.Errorf("got %v, %v; want %v", got, err, tt.want)
			}
		})
	}
	if got, err := ReadFile(filepath.Join(t.TempDir(), "none")); got != nil || err != nil {
		t.Errorf("a missing file: %v, %v", got, err)
	}
}

func TestRanges(t *testing.T) {
	a, b, c := Range{"a", 100, 10}, Range{"b", 109, 10}, Range{"c", 110, 10}
	if !a.Overlaps(b) || !b.Overlaps(a) || a.Overlaps(c) || c.Overlaps(a) {
		t.Error("Overlaps is wrong")
	}
	if !a.Contains(100) || !a.Contains(109) || a.Contains(110) || a.Contains(99) {
		t.Error("Contains is wrong")
	}
	last := Range{"x", 1<<32 - 1, 1}
	if !last.Contains(1<<32-1) || last.Overlaps(a) || !last.Overlaps(last) {
		t.Error("the last id is wrong")
	}
	if got := Of([]Range{a, b, {"7", 1, 1}}, "a", 7); !slices.Equal(got, []Range{a, {"7", 1, 1}}) {
		t.Errorf("Of: %v", got)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("a:100000:65536\n# x\n:1:2\nb:4294967295:1\n")
	f.Fuzz(func(t *testing.T, file string) {
		ranges, _ := parse(strings.NewReader(file), func(line string) []string { return strings.Split(line, ":") })
		for _, r := range ranges {
			if r.Owner == "" || r.Count == 0 || uint64(r.Start)+uint64(r.Count) > 1<<32 {
				t.Errorf("%q gives %+v", file, r)
			}
		}
	})
}
