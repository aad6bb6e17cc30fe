package bench

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"time"

	"github.com/kelp-engine/kelp/test/harness"
)

var (
	alone   = []string{sideKelp}
	outward = []string{sideKelp, sideVeth, sidePasta, sideSlirp}
	streams = []string{sideKelp, sideVeth, sideVethReno, sidePasta, sideSlirp}
	within  = []string{sideKelp, sideBridge, sideBridgeReno}
)

// netFigures are the lines of the network table.
var netFigures = slices.Concat(
	streamFigures("egress", "≥ 60 % of bare, above peers", streams, share(sideVeth, 0.6, sidePasta, sideSlirp), (*side).egress),
	streamFigures("published", "≥ 80 % of bare", streams, share(sideVeth, 0.8), (*side).ingress),
	streamFigures("container to container", "≥ 95 % of bare", within, share(sideBridge, 0.95), (*side).sideways),
	[]*netFigure{
		{name: "new connections, published", unit: "1/s", sides: outward, wants: "≥ 10,000", goal: above(10000), take: traffics((*side).ingress, "connect", "-width", "8")},
		{name: "new connections, egress", unit: "1/s", sides: outward, wants: "≥ 5,000", goal: above(5000), take: traffics((*side).egress, "connect", "-width", "8")},
		{name: "round trip, published", unit: "µs", sides: outward, wants: "bare + 60", goal: adds(60), take: traffics((*side).ingress, "ping")},
		{name: "round trip, egress", unit: "µs", sides: outward, wants: "bare + 60", goal: adds(60), take: traffics((*side).egress, "ping")},
		{name: "UDP at 1 Gbit/s, lost, published", unit: "%", sides: outward, wants: "< 0.1", goal: below(0.1), take: traffics((*side).ingress, "udp")},
		{name: "UDP at 1 Gbit/s, lost, egress", unit: "%", sides: outward, wants: "< 0.1", goal: below(0.1), take: traffics((*side).egress, "udp")},
		{name: "memory of 1,000 published ports", unit: "MiB", sides: alone, once: true, wants: "< 20", goal: below(20), take: publishedMemory},
		{name: "attach a container to a network", unit: "ms", sides: alone, wants: "< 5", goal: below(5), take: attachTime},
		{name: "create and remove a network", unit: "ms", sides: alone, wants: "< 20", goal: below(20), take: networkTime},
	},
)

// streamFigures are one way for bulk data: both directions, one and four
// connections.
func streamFigures(name, wants string, sides []string, goal func(map[string]float64) bool, way way) []*netFigure {
	var all []*netFigure
	for _, direction := range []struct {
		name string
		args []string
	}{{"", nil}, {", reverse", []string{"-reverse"}}} {
		for _, width := range []int{1, 4} {
			args := append([]string{"stream", "-width", fmt.Sprint(width)}, direction.args...)
			all = append(all, &netFigure{
				name: fmt.Sprintf("%s, TCP %d%s", name, width, direction.name), unit: "Gbit/s",
				sides: sides, wants: wants, goal: goal, take: traffics(way, args...),
			})
		}
	}
	return all
}

// way is the command that sends traffic in one of a side's ways, and the
// address it goes to; no address means that the side has no such way.
type way func(s *side) (command func(context.Context, ...string) *exec.Cmd, to string)

func (s *side) egress() (func(context.Context, ...string) *exec.Cmd, string) { return s.inside, s.host }

func (s *side) ingress() (func(context.Context, ...string) *exec.Cmd, string) {
	return s.outside, s.published
}

func (s *side) sideways() (func(context.Context, ...string) *exec.Cmd, string) {
	return s.beside, s.member
}

// traffics measures with one run of the traffic program.
func traffics(w way, args ...string) func(context.Context, *netBench, string) (float64, error) {
	return func(ctx context.Context, n *netBench, who string) (float64, error) {
		command, to := w(n.sides[who])
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second+4**windowFlag)
		defer cancel()
		return runFigure(command(ctx, append(slices.Clone(args), "-time", windowFlag.String(), to)...))
	}
}

// share wants at least a part of what the bare kernel does, and more than each
// of the peers that were measured.
func share(bare string, part float64, peers ...string) func(map[string]float64) bool {
	return func(v map[string]float64) bool {
		ok := v[sideKelp] >= part*v[bare]
		for _, p := range peers {
			ok = ok && v[sideKelp] > v[p]
		}
		return ok
	}
}

func above(least float64) func(map[string]float64) bool {
	return func(v map[string]float64) bool { return v[sideKelp] >= least }
}

func below(most float64) func(map[string]float64) bool {
	return func(v map[string]float64) bool { return v[sideKelp] < most }
}

func adds(most float64) func(map[string]float64) bool {
	return func(v map[string]float64) bool { return v[sideKelp] < v[sideVeth]+most }
}

// publishedMemory is what the keeper has more with 1,000 published ports.
func publishedMemory(ctx context.Context, n *netBench, _ string) (float64, error) {
	s, err := n.kelp.Status(ctx)
	if err != nil {
		return 0, err
	}
	keeper := []harness.Process{{PID: s.KeeperPID}}
	run := func(args ...string) error {
		_, err := n.kelp.Docker(ctx, append(append([]string{"run", "-d", "--name", "many", "--network", "bench"}, args...), "busybox", "sleep", "1000")...)
		return err
	}
	if err := run(); err != nil { // the container itself does not count
		return 0, err
	}
	before, err := harness.PSS(keeper)
	if _, rm := n.kelp.Docker(ctx, "rm", "-f", "many"); errors.Join(err, rm) != nil {
		return 0, errors.Join(err, rm)
	}
	if err := run("-p", "21000-21999:1000-1999"); err != nil {
		return 0, err
	}
	after, err := harness.PSS(keeper)
	_, rm := n.kelp.Docker(ctx, "rm", "-f", "many")
	return after - before, errors.Join(err, rm)
}

// attachTime is that of a connect of a running container.
func attachTime(ctx context.Context, n *netBench, _ string) (float64, error) {
	var made struct{ ID string }
	if err := n.engine.call(ctx, "POST", "/v1.44/networks/create", object{"Name": "other"}, &made); err != nil {
		return 0, err
	}
	change := func(what, container string) error {
		return n.engine.call(ctx, "POST", "/v1.44/networks/"+made.ID+"/"+what, object{"Container": container}, nil)
	}
	defer n.engine.call(ctx, "DELETE", "/v1.44/networks/"+made.ID, nil, nil)
	if err := change("connect", "beside"); err != nil { // so that the network stays
		return 0, err
	}
	defer change("disconnect", "beside")
	var took []time.Duration
	for range 15 {
		begun := time.Now()
		if err := change("connect", "inside"); err != nil {
			return 0, err
		}
		took = append(took, time.Since(begun))
		if err := change("disconnect", "inside"); err != nil {
			return 0, err
		}
	}
	slices.Sort(took)
	return milliseconds(took[len(took)/2]), nil
}

func networkTime(ctx context.Context, n *netBench, _ string) (float64, error) {
	return median(10, func() error {
		var made struct{ ID string }
		if err := n.engine.call(ctx, "POST", "/v1.44/networks/create", object{"Name": "third"}, &made); err != nil {
			return err
		}
		return n.engine.call(ctx, "DELETE", "/v1.44/networks/"+made.ID, nil, nil)
	})
}
