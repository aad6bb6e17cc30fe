package coverage

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kelp-engine/kelp/test/apidef"
)

var update = flag.Bool("update", false, "write docs/api.md")

const root = "../.."

func load(t *testing.T) (*apidef.Definition, map[string]Fate) {
	t.Helper()
	dir, err := apidef.Dir()
	if err != nil {
		t.Fatal(err)
	}
	d, err := apidef.Load(dir, apidef.Newest, true)
	if err != nil {
		t.Fatal(err)
	}
	fates, err := Table()
	if err != nil {
		t.Fatal(err)
	}
	return d, fates
}

// TestNothingIsLeftOut holds that every endpoint, parameter and field of the
// definition has a fate, and that the table has no others.
func TestNothingIsLeftOut(t *testing.T) {
	d, fates := load(t)
	for _, r := range Rows(d, fates) {
		if r.Fate.Kind == "" {
			t.Errorf("%s: is it honoured or refused? Say so in table.txt, and see to it", r.Name)
		}
		delete(fates, r.Name)
	}
	for name := range fates {
		t.Errorf("%s: the definition knows no such thing", name)
	}
}

// TestTheTestsThatShowItAreThere holds that what the table names as shown is
// there to be run.
func TestTheTestsThatShowItAreThere(t *testing.T) {
	_, fates := load(t)
	files := map[string]string{}
	for name, f := range fates {
		if f.Kind != Honoured {
			continue
		}
		if files[f.File()] == "" {
			text, err := os.ReadFile(filepath.Join(root, f.File()))
			if err != nil {
				t.Errorf("%s: %v", name, err)
				text = []byte("nothing")
			}
			files[f.File()] = string(text)
		}
		if !strings.Contains(files[f.File()], f.Text) {
			t.Errorf("%s: %s has no %q", name, f.File(), f.Text)
		}
	}
}

// TestTheDocumentIsTrue compares docs/api.md with what it is made from.
func TestTheDocumentIsTrue(t *testing.T) {
	d, fates := load(t)
	want := Document(d, fates)
	path := filepath.Join(root, "docs", "api.md")
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Error("docs/api.md is not what the table says: run 'go test ./test/coverage -update'")
	}
}
