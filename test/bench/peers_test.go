package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/kelp-engine/kelp/test/harness"
	"github.com/kelp-engine/kelp/test/images"
)

// Names of the figures that bare runtimes have too.
const (
	runTrue  = "create, start, wait, remove `true` (network none)"
	execTrue = "exec `true`"
)

// bundle is an OCI bundle with busybox, for bare runtimes.
type bundle struct{ dir string }

func newBundle(dir string) (*bundle, error) {
	root := filepath.Join(dir, "rootfs", "bin")
	if err := os.MkdirAll(root, 0o755); err != nil {
		return nil, err
	}
	for _, d := range []string{"proc", "dev", "sys", "etc", "tmp"} {
		if err := os.Mkdir(filepath.Join(dir, "rootfs", d), 0o755); err != nil {
			return nil, err
		}
	}
	program, err := os.ReadFile(images.BusyboxPath)
	if err != nil {
		return nil, err
	}
	for _, name := range []string{"true", "sleep"} {
		if err := os.WriteFile(filepath.Join(root, name), program, 0o755); err != nil {
			return nil, err
		}
	}
	return &bundle{dir}, nil
}

// measure times a bare, rootless runtime.
func (b *bundle) measure(ctx context.Context, t *table, runtime string) error {
	if _, err := exec.LookPath(runtime); err != nil {
		return err
	}
	if out, err := b.command(ctx, runtime, "spec", "--rootless").CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	defer os.Remove(filepath.Join(b.dir, "config.json"))
	for _, m := range []struct{ name, figure, goal, program, before, each string }{
		{"run", runTrue, "< runc", "true", "", "RUNTIME run bench$i"},
		{"exec", execTrue, "< 25", "sleep 1000", "RUNTIME run --detach bench </dev/null >/dev/null 2>&1; sleep 0.2", "RUNTIME exec bench /bin/true"},
	} {
		if !asked(m.name) {
			continue
		}
		if err := b.edit(strings.Fields("/bin/" + m.program)); err != nil {
			return err
		}
		ms, err := b.each(ctx, runtime, m.before, m.each)
		if err != nil {
			return fmt.Errorf("%s: %w", m.figure, err)
		}
		t.set(m.figure, "ms", m.goal, runtime, ms)
	}
	return nil
}

// hideUnified hides the second hierarchy of hybrid cgroups, which Debian's
// crun refuses to run beside.
const hideUnified = "{ ! [ -d /sys/fs/cgroup/unified ] || mount -t tmpfs none /sys/fs/cgroup/unified; } && "

// each returns the median time, in milliseconds, of a command that a shell
// runs again and again, after another one. RUNTIME in them is the runtime with
// its options.
func (b *bundle) each(ctx context.Context, runtime, before, command string) (float64, error) {
	state, err := os.MkdirTemp(b.dir, "state")
	if err != nil {
		return 0, err
	}
	const few = 30
	script := fmt.Sprintf("%s\necho; i=0; while [ $i -lt %d ]; do i=$((i+1)); %s || exit; echo; done", before, few, command)
	if before != "" {
		script += "\nRUNTIME kill bench KILL && sleep 0.2 && RUNTIME delete --force bench"
	}
	script = strings.ReplaceAll(script, "RUNTIME", runtime+" --root "+state)
	cmd := b.command(ctx, "sh", "-c", script)
	if runtime == "crun" {
		cmd = b.command(ctx, "unshare", "--user", "--map-root-user", "--map-auto", "--mount", "sh", "-c", hideUnified+"true || exit; "+script)
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	lines, err := cmd.StdoutPipe()
	if err != nil {
		return 0, err
	}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	var ends []time.Time
	for newline := make([]byte, 1); ; ends = append(ends, time.Now()) {
		if _, err := lines.Read(newline); err != nil {
			break
		}
	}
	if err := cmd.Wait(); err != nil || len(ends) != few+1 {
		return 0, fmt.Errorf("%w: %s", err, bytes.TrimSpace(stderr.Bytes()))
	}
	var took []time.Duration
	for i, end := range ends[1:] {
		took = append(took, end.Sub(ends[i]))
	}
	slices.Sort(took)
	return milliseconds(took[few/2]), nil
}

func (b *bundle) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = b.dir
	return cmd
}

// edit makes the default configuration run args without a terminal.
func (b *bundle) edit(args []string) error {
	path := filepath.Join(b.dir, "config.json")
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var spec map[string]any
	if err := json.Unmarshal(text, &spec); err != nil {
		return err
	}
	process := spec["process"].(map[string]any)
	process["terminal"], process["args"] = false, args
	if text, err = json.Marshal(spec); err != nil {
		return err
	}
	return os.WriteFile(path, text, 0o644)
}

// measurePodman drives podman through its Docker API, as kelp is driven.
func measurePodman(ctx context.Context, t *table) error {
	if _, err := exec.LookPath("podman"); err != nil {
		return err
	}
	k, err := harness.New() // for its directories and environment
	if err != nil {
		return err
	}
	defer k.Close()
	socket := filepath.Join(k.RuntimeDir, "podman.sock")
	cmd := k.Command(ctx, "podman", "unshare", "sh", "-c",
		hideUnified+"exec podman --cgroup-manager cgroupfs --runtime crun system service --time=0 unix://"+socket)
	cmd.Env = append(cmd.Env, "TMPDIR="+k.Dir) // or it keeps archives on the disk
	var log bytes.Buffer
	cmd.Stderr = &log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	defer func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL); _ = cmd.Wait() }()
	if err := harness.Until(ctx, 10*time.Second, "podman listens", func() error {
		_, err := os.Stat(socket)
		return err
	}); err != nil {
		return fmt.Errorf("%w: %s", err, log.Bytes())
	}
	b, err := os.ReadFile(filepath.Join(k.RuntimeDir, "libpod", "tmp", "pause.pid"))
	if err != nil {
		return err
	}
	holder, err := strconv.Atoi(strings.TrimSpace(string(b))) // of podman's user namespace
	if err != nil {
		return err
	}
	defer func() { _ = syscall.Kill(holder, syscall.SIGKILL) }()
	e := newEngine("podman", socket, t)
	e.memory = func() (float64, error) {
		all, err := harness.ProcessesBeside(holder)
		if err != nil {
			return 0, err
		}
		return harness.PSS(all)
	}
	return e.measure(ctx)
}
