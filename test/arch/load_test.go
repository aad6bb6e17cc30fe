// Package arch holds the tests of the house rules that a machine can check:
// which package may import which, who may start processes or write state, and
// how large a file or a type may grow.
//
// When one fails, the code moves, not the rule; a new exception needs a reason
// beside it that a reviewer would accept.
package arch

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
)

const module = "github.com/kelp-engine/kelp"

// pkg is one package of the module without its tests.
type pkg struct {
	dir     string // relative to the repository, "." for main
	files   map[string]*ast.File
	imports map[string]string // path → the file that imports it
}

var (
	fset = token.NewFileSet()
	load = sync.OnceValues(loadAll)
)

// packages returns every package below the repository's root, by directory.
func packages(t *testing.T) map[string]*pkg {
	t.Helper()
	all, err := load()
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func loadAll() (map[string]*pkg, error) {
	if err := os.Chdir("../.."); err != nil {
		return nil, err
	}
	all := map[string]*pkg{}
	err := filepath.WalkDir(".", func(file string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (strings.HasPrefix(d.Name(), ".") && file != "." || d.Name() == "testdata" || file == "hack" || file == "bin"):
			return filepath.SkipDir
		case d.IsDir() || !strings.HasSuffix(file, ".go"):
			return nil
		}
		return add(all, file)
	})
	return all, err
}

func add(all map[string]*pkg, file string) error {
	f, err := parser.ParseFile(fset, file, nil, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	dir := path.Dir(file)
	p := all[dir]
	if p == nil {
		p = &pkg{dir: dir, files: map[string]*ast.File{}, imports: map[string]string{}}
		all[dir] = p
	}
	p.files[file] = f
	if strings.HasSuffix(file, "_test.go") {
		return nil // tests may use what they like
	}
	for _, i := range f.Imports {
		name, err := strconv.Unquote(i.Path.Value)
		if err != nil {
			return err
		}
		p.imports[name] = file
	}
	return nil
}

// own returns the directory of an imported package of this module.
func own(importPath string) (string, bool) {
	if importPath == module {
		return ".", true
	}
	return strings.CutPrefix(importPath, module+"/")
}

// within says whether dir is one of roots or below one of them.
func within(dir string, roots ...string) bool {
	for _, r := range roots {
		if dir == r || strings.HasPrefix(dir, r+"/") {
			return true
		}
	}
	return false
}
