// Package crash kills the engine or the keeper at every crash point in the
// source (see engine/crashpoint), in the middle of real work, and holds that
// afterwards all state is readable and true, nothing has leaked, and the same
// objects can be used and removed.
package crash

import (
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/kelp-engine/kelp/engine/crashpoint"
	"github.com/kelp-engine/kelp/test/harness"
	"github.com/kelp-engine/kelp/test/images"
)

// pointsEnv carries the names of all points to the process that runs as the
// test user, which cannot read the source.
const pointsEnv = "KELP_TEST_CRASHPOINTS"

func TestMain(m *testing.M) {
	if os.Getenv(pointsEnv) == "" {
		names, err := points("../..")
		if err != nil {
			fmt.Fprintln(os.Stderr, "cannot find the crash points:", err)
			os.Exit(1)
		}
		os.Setenv(pointsEnv, strings.Join(names, " "))
	}
	harness.Main(m)
}

// points lists the argument of every crashpoint.Hit in the source below root.
func points(root string) ([]string, error) {
	var names []string
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		ast.Inspect(f, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok || len(call.Args) != 1 {
				return true
			}
			fun, ok := call.Fun.(*ast.SelectorExpr)
			if !ok || fun.Sel.Name != "Hit" {
				return true
			}
			if x, ok := fun.X.(*ast.Ident); !ok || x.Name != "crashpoint" {
				return true
			}
			literal, ok := call.Args[0].(*ast.BasicLit)
			if !ok {
				err = fmt.Errorf("%s: a crash point's name must be a literal", path)
				return false
			}
			name, uerr := strconv.Unquote(literal.Value)
			names, err = append(names, name), errors.Join(err, uerr)
			return true
		})
		return err
	})
	slices.Sort(names)
	return slices.Compact(names), err
}

func TestEveryPoint(t *testing.T) {
	eachPoint(t, crashing(everything), "")
}

func TestKeepID(t *testing.T) {
	eachPoint(t, crashing(keepID), "container.create.", "container.start.", "container.remove.", "image.shift.")
}

// crashing crashes at a point of work that the image is for.
func crashing(steps func(busybox string) []string) func(t *testing.T, point, busybox string) {
	return func(t *testing.T, point, busybox string) { crashAt(t, point, steps(busybox)) }
}

// eachPoint runs f for each point of those that begin with one of the prefixes,
// with an archive of busybox.
func eachPoint(t *testing.T, f func(t *testing.T, point, busybox string), prefixes ...string) {
	busybox := filepath.Join(t.TempDir(), "busybox.tar")
	if err := (images.Recipe{Name: "busybox", Ref: "busybox:latest"}).Write(busybox); err != nil {
		t.Fatal(err)
	}
	for _, point := range strings.Fields(os.Getenv(pointsEnv)) {
		if slices.ContainsFunc(prefixes, func(prefix string) bool { return strings.HasPrefix(point, prefix) }) {
			t.Run(point, func(t *testing.T) {
				t.Parallel()
				f(t, point, busybox)
			})
		}
	}
}

// A restart whose engine dies on the way is carried on by the next one: the
// container runs, with another process, whether it would be removed at its end
// or not.
func TestRestartIsWhole(t *testing.T) {
	eachPoint(t, func(t *testing.T, point, busybox string) {
		endAt(t, point, busybox, "restart", func(before, after string) bool {
			return after != before && strings.HasPrefix(after, "true ")
		})
	}, "container.restart.", "container.stop.", "container.exit.", "container.start.")
}

// A stop whose engine dies on the way is carried on by the next one: the
// container ends, and its restart policy does not start it.
func TestStopIsWhole(t *testing.T) {
	eachPoint(t, func(t *testing.T, point, busybox string) {
		endAt(t, point, busybox, "stop", func(_, after string) bool { return after == "false 0" })
	}, "container.stop.", "container.exit.")
}

// newKelp makes a kelp that is closed with the test; where it fails, its log is
// shown.
func newKelp(t *testing.T) *harness.Kelp {
	k, err := harness.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log("kelp's log:\n" + k.Logs())
		}
		if err := k.Close(); err != nil {
			t.Error(err)
		}
	})
	return k
}

// endAt stops or restarts a container with the point armed, and waits until
// what inspect says of it is as it must be.
func endAt(t *testing.T, point, busybox, operation string, done func(before, after string) bool) {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	k := newKelp(t)
	k.Env = append(k.Env, crashpoint.DirEnv+"="+k.Dir)
	must := func(_ string, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must("", k.Start(ctx))
	must(k.Docker(ctx, "load", "-q", "-i", busybox))
	pid := func() (string, error) {
		return k.Docker(ctx, "inspect", "-f", "{{.State.Running}} {{.State.Pid}}", "one")
	}
	how := map[string]string{"restart": "--rm", "stop": "--restart=always"}[operation]
	must(k.Docker(ctx, "run", "-d", how, "--name", "one", "busybox", "sh", "-c", "trap exit TERM; sleep 1000 & wait"))
	before, err := pid()
	must(before, err)
	armed := filepath.Join(k.Dir, point)
	must("", os.WriteFile(armed, nil, 0o644))
	_, failed := k.Docker(ctx, operation, "one")
	if _, err := os.Stat(armed); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("the %s does not reach the point: %v", operation, failed)
	}
	must("", k.WaitReady(ctx))
	must("", harness.Until(ctx, time.Minute, "the "+operation+" is over", func() error {
		after, err := pid()
		if err == nil && !done(before, after) {
			err = fmt.Errorf("running and pid are %s, were %s", after, before)
		}
		return err
	}))
	must(k.Docker(ctx, "rm", "-f", "one"))
	must("", k.CheckClean(ctx))
	must("", k.Stop(ctx))
}

// crashAt does all work once with the point armed, and again without.
func crashAt(t *testing.T, point string, steps []string) {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	k := newKelp(t)
	arms := filepath.Join(k.Dir, "crashpoints")
	if err := os.Mkdir(arms, 0o755); err != nil {
		t.Fatal(err)
	}
	k.Env = append(k.Env, crashpoint.DirEnv+"="+arms)
	armed := filepath.Join(arms, point)
	if err := os.WriteFile(armed, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	_ = k.Start(ctx) // may be where it dies
	w := work{kelp: k, steps: steps}
	if err := w.do(ctx, true); err != nil {
		t.Fatalf("after the crash: %v", err)
	}
	if _, err := os.Stat(armed); !errors.Is(err, fs.ErrNotExist) {
		t.Fatal("no step of the work reaches the point: add one to work_test.go")
	}
	if err := w.check(ctx); err != nil {
		t.Fatalf("after the crash: %v", err)
	}
	if err := w.removeAll(ctx); err != nil {
		t.Fatalf("after the crash: %v", err)
	}
	if err := k.CheckClean(ctx); err != nil {
		t.Fatalf("after the crash: %v", err)
	}
	if err := w.do(ctx, false); err != nil {
		t.Fatalf("the same work, without a crash: %v", err)
	}
	if err := k.CheckClean(ctx); err != nil {
		t.Fatal(err)
	}
	if err := k.Stop(ctx); err != nil {
		t.Fatal(err)
	}
}
