package record

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

type doc struct{ State string }

func open(t *testing.T, dir, file string) *Store[doc] {
	t.Helper()
	s, err := NewStore[doc](dir, Options{File: file, Schema: 1})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestRecentAndDurable(t *testing.T) {
	for _, file := range []string{"", "record.json"} {
		for _, tt := range []struct {
			name   string
			saves  string // d: Save, r: SaveRecent, x: recent file torn by a power cut, X: lost
			want   string // the state that a new store loads
			absent bool
		}{
			{name: "durable", saves: "d", want: "d0"},
			{name: "recent alone", saves: "r", want: "r0"},
			{name: "recent is newer", saves: "dr", want: "r1"},
			{name: "durable is newer", saves: "drd", want: "d2"},
			{name: "recent again", saves: "drdr", want: "r3"},
			{name: "torn recent falls back", saves: "drx", want: "d0"},
			{name: "lost recent falls back", saves: "drX", want: "d0"},
			{name: "nothing", saves: "rX", absent: true},
		} {
			t.Run(file+"/"+tt.name, func(t *testing.T) {
				dir := t.TempDir()
				s := open(t, dir, file)
				for i, op := range tt.saves {
					state := string(op) + string(rune('0'+i))
					switch op {
					case 'd':
						must(t, s.Save("a", &doc{state}))
					case 'r':
						must(t, s.SaveRecent("a", &doc{state}))
					case 'x':
						must(t, os.WriteFile(s.path("a")+recent, nil, 0o600))
					case 'X':
						must(t, os.Remove(s.path("a")+recent))
					}
				}
				docs, errs, err := open(t, dir, file).All()
				if err != nil || len(errs) != 0 {
					t.Fatalf("All: %v, %v", errs, err)
				}
				if tt.absent {
					if len(docs) != 0 {
						t.Errorf("All = %v", docs)
					}
					return
				}
				if docs["a"] == nil || docs["a"].State != tt.want {
					t.Errorf("All = %v, want %s", docs["a"], tt.want)
				}
			})
		}
	}
}

func TestRevisionGoesOnAfterARestart(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, "r")
	must(t, s.Save("a", &doc{"1"}))
	must(t, s.SaveRecent("a", &doc{"2"}))
	s = open(t, dir, "r")
	if _, err := s.Load("a"); err != nil {
		t.Fatal(err)
	}
	must(t, s.Save("a", &doc{"3"}))
	if d, err := open(t, dir, "r").Load("a"); err != nil || d.State != "3" {
		t.Errorf("Load = %v, %v: an older recent file wins", d, err)
	}
}

// TestPatternInAPath has a data root with a character that means something in
// patterns.
func TestPatternInAPath(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a[b")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	left := filepath.Join(dir, ".x.json.tmp")
	if err := os.WriteFile(left, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := NewStore[string](dir, Options{Schema: 1}); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(left); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what an interrupted save left is there: %v", err)
	}
}

func TestDelete(t *testing.T) {
	for _, file := range []string{"", "record.json"} {
		dir := t.TempDir()
		s := open(t, dir, file)
		must(t, s.Save("a", &doc{"1"}))
		must(t, s.SaveRecent("a", &doc{"2"}))
		must(t, s.Delete("a"))
		must(t, s.Delete("a"))
		if _, err := s.Load("a"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: Load after Delete: %v", file, err)
		}
		if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) != 0 {
			t.Errorf("%s: Delete leaves %v", file, left)
		}
	}
}

func TestNewerSchemaIsRefused(t *testing.T) {
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "a.json"), []byte(`{"schema":2,"data":{}}`), 0o600))
	docs, errs, err := open(t, dir, "").All()
	if err != nil || len(docs) != 0 || errs["a"] == nil {
		t.Errorf("All = %v, %v, %v", docs, errs, err)
	}
}
