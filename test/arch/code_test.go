package arch

import (
	"go/ast"
	"slices"
	"strings"
	"testing"
)

// Limits of size.
const (
	maxLines     = 400
	maxMainLines = 60
	maxMethods   = 20 // of one type
	maxEngine    = 10 // of engine.Engine
	maxFunction  = 90 // lines
)

func TestFilesStaySmall(t *testing.T) {
	for dir, p := range packages(t) {
		for name, f := range p.files {
			limit := maxLines
			if dir == "." {
				limit = maxMainLines
			}
			if n := fset.File(f.FileStart).LineCount(); n > limit {
				t.Errorf("%s: %d lines; %d at most", name, n, limit)
			}
		}
	}
}

func TestFunctionsFitAScreen(t *testing.T) {
	for _, p := range packages(t) {
		for name, f := range p.files {
			for _, d := range f.Decls {
				fn, ok := d.(*ast.FuncDecl)
				if !ok || fn.Body == nil || strings.HasSuffix(name, "_test.go") {
					continue
				}
				if n := fset.Position(fn.End()).Line - fset.Position(fn.Pos()).Line; n > maxFunction {
					t.Errorf("%s: %s has %d lines; %d at most", name, fn.Name.Name, n, maxFunction)
				}
			}
		}
	}
}

func TestPackagesSayWhatTheyOwn(t *testing.T) {
	for dir, p := range packages(t) {
		docs := 0
		for _, f := range p.files {
			if f.Doc != nil {
				docs++
			}
		}
		if docs == 0 {
			t.Errorf("%s: no package comment that says what it owns and must not do", dir)
		}
	}
}

func TestTypesStaySmall(t *testing.T) {
	for dir, p := range packages(t) {
		methods := map[string]int{}
		for name, f := range p.files {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			for _, d := range f.Decls {
				if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv != nil {
					methods[receiver(fn.Recv.List[0].Type)]++
				}
			}
		}
		for name, n := range methods {
			limit := maxMethods
			switch {
			case dir == "engine" && name == "Engine":
				limit = maxEngine
			case dir == "apiserver" && name == "Server":
				continue // its methods are the rows of the route table
			}
			if n > limit {
				t.Errorf("%s: %s has %d methods; %d at most", dir, name, n, limit)
			}
		}
	}
}

func receiver(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.StarExpr:
		return receiver(e.X)
	case *ast.IndexExpr:
		return receiver(e.X)
	case *ast.IndexListExpr:
		return receiver(e.X)
	case *ast.Ident:
		return e.Name
	}
	return "?"
}

func TestIdentifiersAreDocumented(t *testing.T) {
	for _, p := range packages(t) {
		for name, f := range p.files {
			if strings.HasSuffix(name, "_test.go") || f.Name.Name == "main" {
				continue
			}
			for _, d := range f.Decls {
				for _, missing := range undocumented(d) {
					t.Errorf("%s: %s has no comment", name, missing)
				}
			}
		}
	}
}

// undocumented lists what a declaration exports without a comment.
func undocumented(d ast.Decl) (missing []string) {
	switch d := d.(type) {
	case *ast.FuncDecl:
		if d.Doc != nil || !d.Name.IsExported() || d.Recv != nil && !ast.IsExported(receiver(d.Recv.List[0].Type)) {
			return nil
		}
		if d.Recv != nil && slices.Contains([]string{"Error", "String", "Unwrap"}, d.Name.Name) {
			return nil // everybody knows what these do
		}
		return []string{d.Name.Name}
	case *ast.GenDecl:
		for _, s := range d.Specs {
			switch s := s.(type) {
			case *ast.TypeSpec:
				if s.Name.IsExported() && s.Doc == nil && d.Doc == nil {
					missing = append(missing, s.Name.Name)
				}
			case *ast.ValueSpec:
				for _, n := range s.Names {
					if n.IsExported() && s.Doc == nil && s.Comment == nil && d.Doc == nil {
						missing = append(missing, n.Name)
					}
				}
			}
		}
	}
	return missing
}

// calls are functions that only some packages may use.
var calls = map[string][]string{
	// State goes through engine/record, which survives a crash half way.
	"os.WriteFile": {"netstack/link", "engine/record", "engine/runtime", "userns", "apiserver/cmd", "image", "test"},
	"os.Rename":    {"engine/record", "engine/logs", "engine/keeper/server", "engine/volume", "image", "apiserver/cmd", "userns/daemonlog", "test"},
	// Processes and namespaces change in few places.
	"syscall.ForkExec":   starters,
	"os.StartProcess":    starters,
	"unix.Setns":         {"engine/runtime", "engine/keeper/server", "netstack/link", "userns"},
	"unix.Unshare":       {"engine/runtime", "engine/keeper/server", "netstack/link", "userns"},
	"os.Exit":            {".", "engine/keeper/kelp-keeper", "userns", "apiserver/cmd", "test"},
	"context.TODO":       {},
	"http.DefaultClient": {"test"}, // it would go through the user's proxy
}

func TestSomeCallsHaveOneOwner(t *testing.T) {
	for dir, p := range packages(t) {
		for name, f := range p.files {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			ast.Inspect(f, func(n ast.Node) bool {
				sel, ok := n.(*ast.SelectorExpr)
				if !ok {
					return true
				}
				x, ok := sel.X.(*ast.Ident)
				if !ok {
					return true
				}
				call := x.Name + "." + sel.Sel.Name
				if allowed, ruled := calls[call]; ruled && !within(dir, allowed...) {
					t.Errorf("%s: uses %s; only %v may", fset.Position(sel.Pos()), call, allowed)
				}
				return true
			})
		}
	}
}

// TestContextsAreNotStored holds that a context is passed, first, and not kept
// in a struct that outlives the call.
func TestContextsAreNotStored(t *testing.T) {
	for dir, p := range packages(t) {
		if within(dir, "test") {
			continue
		}
		for name, f := range p.files {
			ast.Inspect(f, func(n ast.Node) bool {
				st, ok := n.(*ast.StructType)
				if !ok || strings.HasSuffix(name, "_test.go") {
					return true
				}
				for _, field := range st.Fields.List {
					if sel, ok := field.Type.(*ast.SelectorExpr); ok && sel.Sel.Name == "Context" {
						if x, ok := sel.X.(*ast.Ident); ok && x.Name == "context" {
							t.Errorf("%s: a context is stored in a struct", fset.Position(field.Pos()))
						}
					}
				}
				return true
			})
		}
	}
}
