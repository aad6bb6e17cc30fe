package harness

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Process is a process that belongs to a kelp.
type Process struct {
	PID     int
	Command string
}

func (p Process) String() string { return fmt.Sprintf("%d (%s)", p.PID, p.Command) }

// processesIn lists the processes in a user namespace.
func processesIn(ns string) []Process {
	if ns == "" {
		return nil
	}
	links, _ := filepath.Glob("/proc/[0-9]*/ns/user")
	var all []Process
	for _, link := range links {
		if target, err := os.Readlink(link); err != nil || target != ns {
			continue
		}
		dir := filepath.Dir(filepath.Dir(link))
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil {
			continue
		}
		cmdline, _ := os.ReadFile(filepath.Join(dir, "cmdline"))
		all = append(all, Process{pid, strings.TrimSpace(strings.ReplaceAll(string(cmdline), "\x00", " "))})
	}
	return all
}

// Processes lists kelp's own processes and those of its containers.
func (k *Kelp) Processes() []Process {
	all := processesIn(k.userNS)
	if k.ended != nil {
		all = append(all, Process{PID: k.daemon.Process.Pid, Command: "kelp daemon"})
	}
	return all
}

// ProcessesBeside lists the processes in the user namespace of process pid.
func ProcessesBeside(pid int) ([]Process, error) {
	ns, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/user", pid))
	return processesIn(ns), err
}

// PSS adds up the memory of processes, in MiB; what processes share counts
// once.
func PSS(ps []Process) (float64, error) {
	total := 0.0
	for _, p := range ps {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", p.PID))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return 0, err
		}
		for line := range strings.Lines(string(b)) {
			if rest, ok := strings.CutPrefix(line, "Pss:"); ok {
				kb, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
				if err != nil {
					return 0, err
				}
				total += kb / 1024
			}
		}
	}
	return total, nil
}

// snapshot is what a keeper holds on to.
type snapshot struct {
	mounts map[string]bool     // mount points
	files  map[string][]string // open files by kind
}

// observe notes what a keeper that was just started holds.
func (k *Kelp) observe(ctx context.Context) error {
	s, err := k.Status(ctx)
	if err != nil {
		return err
	}
	path := fmt.Sprintf("/proc/%d/ns/user", s.KeeperPID)
	ns, err := os.Readlink(path)
	if err != nil || ns == k.userNS {
		return err
	}
	held, err := os.Open(path)
	if err != nil {
		return err
	}
	k.held.Close()
	k.userNS, k.held = ns, held
	k.before, err = takeSnapshot(s.KeeperPID)
	return err
}

func takeSnapshot(pid int) (*snapshot, error) {
	s := &snapshot{mounts: map[string]bool{}, files: map[string][]string{}}
	info, err := os.ReadFile(fmt.Sprintf("/proc/%d/mountinfo", pid))
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(info)) {
		if f := strings.Fields(line); len(f) > 4 {
			s.mounts[f[4]] = true
		}
	}
	links, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	if err != nil {
		return nil, err
	}
	for _, l := range links {
		target, err := os.Readlink(l)
		if err != nil {
			continue // closed meanwhile
		}
		kind, _, _ := strings.Cut(target, ":")
		if slices.Contains([]string{"net", "mnt", "pid", "user", "pipe", "/dev/ptmx", "/dev/pts/ptmx"}, kind) {
			s.files[kind] = append(s.files[kind], filepath.Base(l)+" "+target)
		}
	}
	return s, nil
}

// CheckClean removes every container and returns an error when the running
// kelp still holds a process, a mount, a namespace or a pipe afterwards that
// it did not hold at its start.
func (k *Kelp) CheckClean(ctx context.Context) error {
	ids, err := k.Docker(ctx, "ps", "-aq")
	if err != nil {
		return err
	}
	if ids != "" {
		if _, err := k.Docker(ctx, append([]string{"rm", "-fv"}, strings.Fields(ids)...)...); err != nil {
			return err
		}
	}
	return k.until(ctx, "nothing of the containers is left", func() error {
		s, err := k.Status(ctx)
		if err != nil {
			return err
		}
		for _, p := range processesIn(k.userNS) {
			if p.PID != s.KeeperPID && p.PID != s.EnginePID {
				return fmt.Errorf("process %v is left", p)
			}
		}
		now, err := takeSnapshot(s.KeeperPID)
		if err != nil {
			return err
		}
		for m := range maps.Keys(now.mounts) {
			// The store keeps its own mount once an image was used.
			if !k.before.mounts[m] && filepath.Dir(m) != filepath.Join(k.DataRoot, "storage") {
				return fmt.Errorf("mount %s is left", m)
			}
		}
		networks, err := k.Docker(ctx, "network", "ls", "-q", "--filter", "driver=bridge")
		if err != nil {
			return err
		}
		allowed := map[string]int{}
		for kind, files := range k.before.files {
			allowed[kind] = len(files)
		}
		// A network that was used stays, and the keeper has two namespaces
		// of its own from then on.
		allowed["net"] = max(allowed["net"], len(strings.Fields(networks))+2)
		for kind, files := range now.files {
			if len(files) > allowed[kind] {
				return fmt.Errorf("the keeper, pid %d, has the open files %v, at its start %v", s.KeeperPID, files, k.before.files[kind])
			}
		}
		return nil
	})
}
