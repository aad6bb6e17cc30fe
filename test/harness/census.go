package harness

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// Census counts what the keeper and the engine hold, by what it is.
type Census map[string]int

// TakeCensus counts what k holds now. counter is a program that, run in a network
// namespace, prints lines of a name and a number: what there is of it.
func TakeCensus(ctx context.Context, k *Kelp, counter ...string) (Census, error) {
	s, err := k.Status(ctx)
	if err != nil {
		return nil, err
	}
	c := Census{"keeper's goroutines": s.KeeperGoroutines, "processes": len(processesIn(k.userNS))}
	out, err := k.Docker(ctx, "info", "--format", "{{.NGoroutines}}")
	if err != nil {
		return nil, err
	}
	var n int
	if err := json.Unmarshal([]byte(out), &n); err != nil {
		return nil, err
	}
	c["engine's goroutines"] = n
	for who, pid := range map[string]int{"keeper": s.KeeperPID, "engine": s.EnginePID} {
		threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
		if err != nil {
			return nil, err
		}
		c[who+"'s threads"] = len(threads)
		for _, kind := range openKinds(pid) {
			c[fmt.Sprintf("%s's open files of kind %q", who, kind)]++
		}
	}
	mounts, err := os.ReadFile(fmt.Sprintf("/proc/%d/mountinfo", s.KeeperPID))
	if err != nil {
		return nil, err
	}
	c["mounts"] = strings.Count(string(mounts), "\n")
	return c, c.countNamespaces(ctx, s.KeeperPID, counter)
}

// openKinds lists the kinds of a process's open files.
func openKinds(pid int) []string {
	links, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	var all []string
	for _, l := range links {
		if target, err := os.Readlink(l); err == nil {
			kind, _, _ := strings.Cut(target, ":")
			all = append(all, kind)
		}
	}
	return all
}

// countNamespaces adds what counter finds in the keeper's network namespaces.
func (c Census) countNamespaces(ctx context.Context, pid int, counter []string) error {
	outputs, err := InNamespaces(ctx, pid, counter...)
	if err != nil {
		return err
	}
	for _, out := range outputs {
		for line := range strings.Lines(out) {
			var what string
			var n int
			if _, err := fmt.Sscan(line, &what, &n); err != nil {
				return fmt.Errorf("%s printed %q: %w", counter[0], line, err)
			}
			c[what] += n
		}
	}
	c["network namespaces"] = len(outputs)
	return nil
}

// InNamespaces runs a command in each network namespace that a keeper holds,
// as its user can, and returns what each printed.
func InNamespaces(ctx context.Context, pid int, command ...string) ([]string, error) {
	var outputs []string
	links, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	seen := map[string]bool{}
	for _, l := range links {
		target, err := os.Readlink(l)
		if err != nil || !strings.HasPrefix(target, "net:") || seen[target] {
			continue
		}
		seen[target] = true
		args := append([]string{"-t", fmt.Sprint(pid), "-U", "--preserve-credentials", "--net=" + l}, command...)
		out, err := exec.CommandContext(ctx, "nsenter", args...).CombinedOutput()
		if err != nil {
			return nil, fmt.Errorf("%s in namespace %s: %w: %s", command[0], target, err, out)
		}
		outputs = append(outputs, string(out))
	}
	return outputs, nil
}

// Grown tells what there is more of than before, beyond what is tolerated.
func (c Census) Grown(before Census) error {
	var grown []string
	for _, what := range slices.Sorted(maps.Keys(c)) {
		if c[what] > before[what]+tolerance(what) {
			grown = append(grown, fmt.Sprintf("%s: %d, before %d", what, c[what], before[what]))
		}
	}
	if len(grown) == 0 {
		return nil
	}
	return fmt.Errorf("left over: %s", strings.Join(grown, "; "))
}

// tolerance is what may come and go by itself: threads that Go keeps, and the
// connections of those who count.
func tolerance(what string) int {
	switch {
	case strings.HasSuffix(what, "threads"):
		return 8
	case strings.HasSuffix(what, "goroutines"), strings.HasSuffix(what, `"socket"`):
		return 2
	}
	return 0
}
