// Package bench measures kelp beside the container runtimes and engines that
// are installed, on the same machine in the same minutes, and prints ratios:
// figures alone mean little on a shared machine.
//
// `make bench` runs it; `go test` alone measures nothing.
package bench

import (
	"context"
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/kelp-engine/kelp/test/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }

var only = flag.String("figures", "", "take only the measurements whose names match this `expression`")

// asked says whether a measurement is to be taken.
func asked(name string) bool {
	yes, err := regexp.MatchString(*only, name)
	if err != nil {
		panic(err)
	}
	return yes
}

// figure is one line of the table.
type figure struct {
	name  string
	goal  string
	unit  string
	value map[string]float64 // by who was measured
}

// table collects figures.
type table struct {
	rows []*figure
}

func (t *table) set(name, unit, goal, who string, value float64) {
	i := slices.IndexFunc(t.rows, func(f *figure) bool { return f.name == name })
	if i < 0 {
		t.rows = append(t.rows, &figure{name: name, goal: goal, unit: unit, value: map[string]float64{}})
		i = len(t.rows) - 1
	}
	t.rows[i].value[who] = value
	fmt.Fprintf(os.Stderr, "%-48s %-8s %10.2f %s\n", name, who, value, unit)
}

func (t *table) print() {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprint(w, "figure\tgoal\tkelp")
	peers := []string{"runc", "crun", "podman"}
	for _, p := range peers {
		fmt.Fprintf(w, "\t%s\tkelp/%s", p, p)
	}
	fmt.Fprintln(w)
	for _, f := range t.rows {
		fmt.Fprintf(w, "%s\t%s\t%.1f %s", f.name, f.goal, f.value["kelp"], f.unit)
		for _, p := range peers {
			if v, ok := f.value[p]; ok {
				fmt.Fprintf(w, "\t%.1f %s\t%.2f×", v, f.unit, f.value["kelp"]/v)
			} else {
				fmt.Fprint(w, "\t–\t–")
			}
		}
		fmt.Fprintln(w)
	}
	w.Flush()
}

// BenchmarkTable measures everything once.
func BenchmarkTable(b *testing.B) {
	ctx, cancel := context.WithTimeout(context.Background(), 25*time.Minute)
	defer cancel()
	t := &table{}
	bundle, err := newBundle(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	if err := measurePodman(ctx, t); err != nil {
		b.Logf("podman is left out: %v", err)
	}
	for _, name := range []string{"runc", "crun"} {
		if err := bundle.measure(ctx, t, name); err != nil {
			b.Logf("%s is left out: %v", name, err)
		}
	}
	k, err := harness.New()
	if err != nil {
		b.Fatal(err)
	}
	defer k.Close()
	if err := k.Start(ctx); err != nil {
		b.Fatalf("%v\n%s", err, k.Logs())
	}
	e := newEngine("kelp", k.Socket, t)
	e.memory = func() (float64, error) { return harness.PSS(k.Processes()) }
	if err := e.measure(ctx); err != nil {
		b.Errorf("%v\n%s", err, k.Logs())
	}
	t.print()
}

// median runs f n times after a few that do not count, and returns the median
// time in milliseconds.
func median(n int, f func() error) (float64, error) {
	var took []time.Duration
	for i := range n + 3 {
		begun := time.Now()
		if err := f(); err != nil {
			return 0, err
		}
		if i >= 3 {
			took = append(took, time.Since(begun))
		}
	}
	slices.Sort(took)
	return milliseconds(took[len(took)/2]), nil
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
