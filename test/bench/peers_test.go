package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/kelp-engine/kelp/test/harness"
	"github.com/kelp-engine/kelp/test/images"
)

// Names of the figures that peers have too.
const (
	runTrue  = "create, start, wait, remove `true` (network none)"
	execTrue = "exec `true`"
)

// bundle is an OCI bundle that runs true in busybox, for bare runtimes.
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
	return &bundle{dir}, os.WriteFile(filepath.Join(root, "true"), program, 0o755)
}

// measure times a bare, rootless `runtime run` of true.
func (b *bundle) measure(ctx context.Context, t *table, runtime string) error {
	if _, err := exec.LookPath(runtime); err != nil {
		return err
	}
	state := filepath.Join(b.dir, "state-"+runtime)
	if out, err := b.command(ctx, runtime, "spec", "--rootless").CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	defer os.Remove(filepath.Join(b.dir, "config.json"))
	if err := b.edit(); err != nil {
		return err
	}
	const few, more = 5, 25
	short, err := b.loop(ctx, few, runtime, state)
	if err != nil {
		return err
	}
	long, err := b.loop(ctx, more, runtime, state)
	if err != nil {
		return err
	}
	t.set(runTrue, "ms", "< runc", runtime, milliseconds(long-short)/(more-few))
	return nil
}

// loop times a shell that runs n containers one after another. Debian's crun
// refuses a hybrid cgroup hierarchy, so that is hidden from it; what this
// costs once drops out of the difference of two loops.
func (b *bundle) loop(ctx context.Context, n int, runtime, state string) (time.Duration, error) {
	script := fmt.Sprintf(`i=0; while [ $i -lt %d ]; do i=$((i+1)); %s --root %s run bench$i || exit; done`, n, runtime, state)
	cmd := b.command(ctx, "sh", "-c", script)
	if runtime == "crun" {
		script = "! [ -d /sys/fs/cgroup/unified ] || mount -t tmpfs none /sys/fs/cgroup/unified || exit; " + script
		cmd = b.command(ctx, "unshare", "--user", "--map-root-user", "--map-auto", "--mount", "sh", "-c", script)
	}
	begun := time.Now()
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, bytes.TrimSpace(out))
	}
	return time.Since(begun), err
}

func (b *bundle) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = b.dir
	return cmd
}

// edit makes the default configuration run true without a terminal.
func (b *bundle) edit() error {
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
	process["terminal"], process["args"] = false, []string{"/bin/true"}
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
	cmd := k.Command(ctx, "podman", "system", "service", "--time=0", "unix://"+socket)
	var log bytes.Buffer
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		return err
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	if err := harness.Until(ctx, 10*time.Second, "podman listens", func() error {
		_, err := os.Stat(socket)
		return err
	}); err != nil {
		return fmt.Errorf("%w: %s", err, log.Bytes())
	}
	return newEngine("podman", socket, t).measure(ctx)
}
