package crash

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"

	"github.com/kelp-engine/kelp/test/harness"
)

// work is what goes on while a process is killed.
type work struct {
	kelp  *harness.Kelp
	steps []string // docker commands
}

// everything are steps that, between them, reach every crash point.
func everything(busybox string) []string {
	return []string{
		"load -q -i " + busybox,
		"tag busybox:latest copy:1",
		"volume create vol",
		"network create net",
		"network create --subnet 10.123.0.0/24 other",
		"network create unused",
		"create --name one --network net --network-alias first -p 127.0.0.1::80 -v vol:/data -v /anon busybox sh -c 'sleep 1000'",
		"start one",
		"network connect --ip 10.123.0.77 other one",
		"exec one touch /data/f",
		"pause one",
		"unpause one",
		"update --restart always one",
		"update --restart no one",
		"create --name linked busybox true",
		"create --name parent --link linked:alias busybox true",
		"rename linked renamed",
		"rm parent/alias",
		"rm parent",
		"rename one two",
		"rename two one",
		"network disconnect net one",
		"restart -t 0 one",
		"stop -t 0 one",
		"commit one saved:1",
		"run --rm --name short busybox true",
		"run -d --name policy --restart on-failure:1 busybox false",
		"wait policy",
		"run -d --name healthy --health-cmd true --health-interval 100ms busybox sleep 1000",
		"kill healthy",
		"create --name kept --annotation kelp.userns=keep-id busybox true",
		"rm -v one policy healthy kept",
		"image rm saved:1 copy:1",
		"volume rm vol",
		"network rm net",
		"network prune -f",
		"image prune -f",
	}
}

// keepID are steps for a container that is made on a copy of its image, with
// other owners.
func keepID(busybox string) []string {
	return []string{
		"load -q -i " + busybox,
		"create --name kept --annotation kelp.userns=keep-id --user 0 -v kept:/data busybox sh -c 'test -O /bin/busybox && sleep 1000'",
		"start kept",
		"exec kept sh -c 'test -O /bin/busybox && touch /data/f'",
		"stop -t 0 kept",
		"rm kept",
		"volume rm kept",
		"image prune -f",
		"run --rm --annotation kelp.userns=keep-id --user 0 busybox test -O /bin/busybox",
		"image rm busybox",
	}
}

// do takes every step. With crash set, a step may fail: then kelp is started
// again if its keeper died, and the work goes on.
func (w *work) do(ctx context.Context, crash bool) error {
	for _, step := range w.steps {
		_, err := w.kelp.Docker(ctx, split(step)...)
		switch {
		case err == nil:
		case !crash:
			return err
		default:
			if err := w.revive(ctx); err != nil {
				return fmt.Errorf("after %s: %w", step, err)
			}
		}
	}
	return nil
}

// revive makes sure that the engine answers.
func (w *work) revive(ctx context.Context) error {
	if s, err := w.kelp.Status(ctx); err == nil && s.Running {
		return w.kelp.WaitReady(ctx)
	}
	return w.kelp.Start(ctx)
}

// split is a shell's splitting, as far as steps need it: 'quoted words' stay
// together.
func split(s string) (words []string) {
	for i, part := range strings.Split(s, "'") {
		if i%2 == 1 {
			words = append(words, part)
		} else {
			words = append(words, strings.Fields(part)...)
		}
	}
	return words
}

// check holds that what the engine says is true.
func (w *work) check(ctx context.Context) error {
	if err := w.revive(ctx); err != nil {
		return err
	}
	for _, list := range []string{"images -a", "volume ls", "network ls", "info", "system df"} {
		if _, err := w.kelp.Docker(ctx, split(list)...); err != nil {
			return err
		}
	}
	ids, err := w.kelp.Docker(ctx, "ps", "-aq", "--no-trunc")
	if err != nil {
		return err
	}
	for _, id := range strings.Fields(ids) {
		out, err := w.kelp.Docker(ctx, "inspect", "--type", "container", "-s", id)
		if err != nil {
			return err
		}
		if err := checkState(out); err != nil {
			return fmt.Errorf("container %s: %w", id, err)
		}
		if err := w.checkNetwork(ctx, id, out); err != nil {
			return fmt.Errorf("container %s: %w", id, err)
		}
	}
	return nil
}

func checkState(inspected string) error {
	var all []struct {
		State struct {
			Status  string
			Running bool
			Pid     int
		}
	}
	if err := json.Unmarshal([]byte(inspected), &all); err != nil {
		return err
	}
	s := all[0].State
	_, err := os.Stat(fmt.Sprintf("/proc/%d", s.Pid))
	alive := s.Pid > 0 && err == nil
	switch {
	case s.Status == "restarting": // between two processes
	case s.Running != alive:
		return fmt.Errorf("it is %s (running: %v), but its process %d lives: %v", s.Status, s.Running, s.Pid, alive)
	case s.Status == "removing" || s.Status == "dead":
		return fmt.Errorf("it is left as %s", s.Status)
	}
	return nil
}

// checkNetwork holds that a running container has the addresses that it is
// said to have, and that its published ports are open.
func (w *work) checkNetwork(ctx context.Context, id, inspected string) error {
	var all []struct {
		State struct {
			Status string
		}
		NetworkSettings struct {
			Networks map[string]struct{ IPAddress string }
			Ports    map[string][]struct{ HostIP, HostPort string }
		}
	}
	if err := json.Unmarshal([]byte(inspected), &all); err != nil || all[0].State.Status != "running" {
		return err
	}
	out, err := w.kelp.Docker(ctx, "exec", id, "ip", "-o", "-4", "addr")
	if err != nil {
		return err
	}
	n := all[0].NetworkSettings
	if devices := strings.Count(out, " eth"); devices < len(n.Networks) {
		return fmt.Errorf("it is on %v, but has %s", n.Networks, out)
	}
	for name, e := range n.Networks {
		if !strings.Contains(out, " "+e.IPAddress+"/") {
			return fmt.Errorf("it has not the address %q of network %s, but %s", e.IPAddress, name, out)
		}
	}
	for _, bindings := range n.Ports {
		for _, b := range bindings {
			c, err := net.Dial("tcp", net.JoinHostPort(b.HostIP, b.HostPort))
			if err != nil {
				return fmt.Errorf("its published port is closed: %w", err)
			}
			c.Close()
		}
	}
	return nil
}

// removeAll removes every object, whatever state the crash left it in.
func (w *work) removeAll(ctx context.Context) error {
	for _, kind := range []struct{ list, remove string }{
		{"ps -aq", "rm -fv"},
		{"volume ls -q", "volume rm"},
		{"network ls -q --filter type=custom", "network rm"},
		{"images -q --no-trunc", "image rm -f"},
	} {
		out, err := w.kelp.Docker(ctx, split(kind.list)...)
		if err != nil {
			return err
		}
		names := strings.Fields(out)
		slices.Sort(names)
		for _, name := range slices.Compact(names) {
			if _, err := w.kelp.Docker(ctx, append(split(kind.remove), name)...); err != nil {
				return err
			}
		}
	}
	return nil
}
