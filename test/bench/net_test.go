package bench

import (
	"context"
	"flag"
	"fmt"
	"math"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/kelp-engine/kelp/test/harness"
	"github.com/kelp-engine/kelp/test/images"
)

var (
	figureFlag = flag.String("figure", "", "measure only the network figures that match this `regexp`")
	repeatFlag = flag.Int("repeat", 3, "how often the network figures are measured; their medians count")
	windowFlag = flag.Duration("window", 700*time.Millisecond, "how long one network measurement takes")
)

// netBench is everything that the network figures need.
type netBench struct {
	kelp   *harness.Kelp
	engine *engine
	sides  map[string]*side
}

// The sides. The bare kernel is in one of two forms, as it is and, in case the
// host's congestion control paces, without pacing.
const (
	sideKelp       = "kelp"
	sideVeth       = "veth"
	sideVethReno   = "veth with reno"
	sideBridge     = "bridge"
	sideBridgeReno = "bridge with reno"
	sidePasta      = "pasta"
	sideSlirp      = "slirp4netns"
)

// netFigure is one line of the network table.
type netFigure struct {
	name, unit string
	// sides are measured one after the other, several times over, so that
	// what disturbs the machine disturbs all.
	sides []string
	// once is for what the first time changes.
	once bool
	// goal judges the medians.
	goal  func(v map[string]float64) bool
	wants string
	take  func(ctx context.Context, n *netBench, who string) (float64, error)
}

// BenchmarkNet measures kelp's networks beside bare kernel devices and the
// peers. -figure chooses lines.
func BenchmarkNet(b *testing.B) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	wanted, err := regexp.Compile(*figureFlag)
	if err != nil {
		b.Fatal(err)
	}
	var c cleanup
	defer c.run()
	n, err := newNetBench(ctx, &c, b)
	if err != nil {
		b.Fatal(err)
	}
	t := newNetTable()
	for _, f := range netFigures {
		if !wanted.MatchString(f.name) {
			continue
		}
		v, err := f.measure(ctx, n)
		if err != nil {
			b.Errorf("%s: %v", f.name, err)
		}
		t.add(f, v)
	}
	t.print()
}

// newNetBench brings up every side that this machine can have.
func newNetBench(ctx context.Context, c *cleanup, b *testing.B) (*netBench, error) {
	if _, err := exec.LookPath("traffic"); err != nil {
		return nil, fmt.Errorf("%w: run hack/bench-peers first", err)
	}
	k, err := harness.New()
	if err != nil {
		return nil, err
	}
	c.add(func() { _ = k.Close() })
	if err := k.Start(ctx); err != nil {
		return nil, fmt.Errorf("%w\n%s", err, k.Logs())
	}
	n := &netBench{kelp: k, engine: newEngine(sideKelp, k.Socket, nil), sides: map[string]*side{}}
	if err := n.engine.loadImage(ctx, images.Recipe{Name: "busybox", Ref: "busybox:latest"}, k.Dir+"/busybox.tar"); err != nil {
		return nil, err
	}
	address, err := hostAddress()
	if err != nil {
		return nil, err
	}
	port, err := freePorts()
	if err != nil {
		return nil, err
	}
	if _, err := c.server(traffic(context.Background(), "serve", strconv.Itoa(port))); err != nil {
		return nil, err
	}
	if n.sides[sideKelp], err = c.kelpSide(ctx, k, address, port); err != nil {
		return nil, fmt.Errorf("%w\n%s", err, k.Logs())
	}
	if n.sides[sideVeth], n.sides[sideBridge], err = c.wires(ctx, ""); err != nil {
		return nil, err
	}
	if n.sides[sideVethReno], n.sides[sideBridgeReno], err = c.wires(ctx, "reno"); err != nil {
		return nil, err
	}
	if s, err := c.pastaSide(address, port); err == nil {
		n.sides[sidePasta] = s
	} else {
		b.Logf("pasta is left out: %v", err)
	}
	if s, err := c.slirpSide(k.Dir, port); err == nil {
		n.sides[sideSlirp] = s
	} else {
		b.Logf("slirp4netns is left out: %v", err)
	}
	return n, n.sourceKept(ctx)
}

// sourceKept checks that what is measured is what was promised: the container
// sees its client's address and port.
func (n *netBench) sourceKept(ctx context.Context) error {
	s := n.sides[sideKelp]
	out, err := run(s.outside(ctx, "seen", s.published))
	if err != nil {
		return err
	}
	own, seen, _ := strings.Cut(out, " seen as ")
	if own != seen {
		return fmt.Errorf("the container does not see its client's address: %s", out)
	}
	return nil
}

// measure returns the median of each side that can do it.
func (f *netFigure) measure(ctx context.Context, n *netBench) (map[string]float64, error) {
	samples, failed := map[string][]float64{}, map[string]error{}
	repeats := *repeatFlag
	if f.once {
		repeats = 1
	}
	for range repeats {
		for _, who := range f.sides {
			if n.sides[who] == nil || failed[who] != nil {
				continue
			}
			v, err := f.take(ctx, n, who)
			if err != nil {
				failed[who] = err
				fmt.Fprintf(os.Stderr, "%-40s %-12s failed: %v\n", f.name, who, err)
				continue
			}
			samples[who] = append(samples[who], v)
		}
	}
	medians := map[string]float64{}
	for _, who := range f.sides {
		if s := slices.Sorted(slices.Values(samples[who])); len(s) > 0 && failed[who] == nil {
			medians[who] = s[len(s)/2]
			fmt.Fprintf(os.Stderr, "%-40s %-12s %10.2f %-7s %.4g\n", f.name, who, medians[who], f.unit, samples[who])
		}
	}
	return medians, failed[sideKelp]
}

// netTable is the network figures as a table.
type netTable struct{ w *tabwriter.Writer }

func newNetTable() *netTable {
	t := &netTable{tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)}
	fmt.Fprintln(t.w, "figure\tunit\tkelp\tbare\tkelp/bare\tbare, reno\tkelp/bare, reno\tpasta\tkelp/pasta\tslirp4netns\tkelp/slirp4netns\tgoal\t")
	return t
}

func (t *netTable) add(f *netFigure, v map[string]float64) {
	own, ok := v[sideKelp]
	if !ok {
		return
	}
	fmt.Fprintf(t.w, "%s\t%s\t%s", f.name, f.unit, number(own))
	bare, reno := sideVeth, sideVethReno
	if slices.Contains(f.sides, sideBridge) {
		bare, reno = sideBridge, sideBridgeReno
	}
	for _, who := range []string{bare, reno, sidePasta, sideSlirp} {
		other, ok := v[who]
		switch {
		case !ok:
			fmt.Fprint(t.w, "\t–\t–")
		case other == 0:
			fmt.Fprint(t.w, "\t0\t–")
		default:
			fmt.Fprintf(t.w, "\t%s\t%.2f×", number(other), own/other)
		}
	}
	verdict := "missed"
	if f.goal(v) {
		verdict = "met"
	}
	fmt.Fprintf(t.w, "\t%s\t%s\n", f.wants, verdict)
}

// number writes a figure with three digits.
func number(v float64) string {
	if v == 0 {
		return "0"
	}
	return strconv.FormatFloat(v, 'f', max(0, 2-int(math.Floor(math.Log10(math.Abs(v))))), 64)
}

func (t *netTable) print() { t.w.Flush() }
