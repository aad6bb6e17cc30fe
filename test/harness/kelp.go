package harness

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// patience is how long anything that should happen soon may take on a loaded
// machine.
const patience = 2 * time.Minute

// Kelp is one kelp of one test: its directories, and while it runs its
// processes.
type Kelp struct {
	// Dir holds all the others.
	Dir string
	// Home, RuntimeDir and DataRoot are what kelp gets to use.
	Home, RuntimeDir, DataRoot string
	// Socket is the path of the Engine API.
	Socket string
	// Tapped is the path that clients should use: Socket, or one on the way to it.
	Tapped string
	// Env is the environment of kelp and of its clients.
	Env []string

	daemon *exec.Cmd
	ended  chan struct{} // closed when daemon has ended
	before *snapshot     // taken when the keeper of userNS was idle
	userNS string
	// held is userNS: while it is open, no other user namespace, such as that of
	// another test's container, gets the same name.
	held   *os.File
	cgroup *os.File // that the daemon is started in, nil for none

	answers *Answers // nil: they are not looked at
}

// New makes the directories for a kelp. Close removes them.
func New() (*Kelp, error) {
	base := os.Getenv(baseEnv)
	if base == "" {
		return nil, errors.New("the package's TestMain must call harness.Main")
	}
	dir, err := os.MkdirTemp(base, "k")
	if err != nil {
		return nil, err
	}
	k := &Kelp{Dir: dir, Home: filepath.Join(dir, "home"), RuntimeDir: filepath.Join(dir, "run")}
	k.DataRoot = filepath.Join(k.Home, ".local", "share", "kelp")
	k.Socket = filepath.Join(k.RuntimeDir, "kelp", "docker.sock")
	k.Tapped = k.Socket
	for _, d := range []string{k.Home, k.RuntimeDir} {
		if err := os.Mkdir(d, 0o700); err != nil {
			return nil, err
		}
	}
	k.Env = append(
		childEnv(os.Environ()),
		"HOME="+k.Home,
		"XDG_RUNTIME_DIR="+k.RuntimeDir,
		"DOCKER_HOST=unix://"+k.Socket,
		"DOCKER_CONFIG="+filepath.Join(k.Home, ".docker"),
		"PATH="+os.Getenv("PATH"),
		"TZ=UTC",
		"LC_ALL=C",
	)
	return k, nil
}

// Judge holds every answer that clients get through the socket Tapped, or by
// HTTP, against the API's definition. It must be called before Start.
func (k *Kelp) Judge() *Answers {
	k.Tapped = filepath.Join(k.Dir, "tap.sock")
	k.answers = &Answers{path: k.Tapped, target: k.Socket}
	return k.answers
}

// Binary returns the path of the kelp under test.
func Binary() string { return os.Getenv(kelpEnv) }

// Command returns a command in k's environment, looked up in its PATH.
func (k *Kelp) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	if name == "kelp" {
		name = Binary()
	} else if own := filepath.Join(filepath.Dir(Binary()), name); isFile(own) {
		name = own
	}
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = k.Env
	cmd.Dir = k.Home
	cmd.WaitDelay = time.Second
	return cmd
}

// Docker runs the docker client and returns what it printed.
func (k *Kelp) Docker(ctx context.Context, args ...string) (string, error) {
	var stderr bytes.Buffer
	cmd := k.Command(ctx, "docker", args...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("docker %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return strings.TrimSpace(string(out)), err
}

// Start runs `kelp daemon` with args and returns when the Engine API answers.
func (k *Kelp) Start(ctx context.Context, args ...string) error {
	log, err := os.OpenFile(k.logPath(), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	k.daemon = k.Command(context.WithoutCancel(ctx), "kelp", append([]string{"daemon", "--debug"}, args...)...)
	k.daemon.Stdout, k.daemon.Stderr = log, log
	k.daemon.SysProcAttr = &unix.SysProcAttr{Setsid: true}
	if k.cgroup == nil {
		k.cgroup, _ = subCgroup(filepath.Base(k.Dir)) // none is delegated: kelp does without
	}
	if k.cgroup != nil {
		enter(k.daemon, k.cgroup)
	}
	if err := k.daemon.Start(); err != nil {
		return err
	}
	k.ended = make(chan struct{})
	go func(cmd *exec.Cmd, ended chan struct{}) { _ = cmd.Wait(); close(ended) }(k.daemon, k.ended)
	if err := k.WaitReady(ctx); err != nil {
		k.dumpStacks()
		return err
	}
	if err := k.answers.listen(); err != nil {
		return err
	}
	return k.observe(ctx)
}

// dumpStacks makes the processes of a kelp that does not come up say in the
// log what they are doing.
func (k *Kelp) dumpStacks() {
	out, _ := exec.Command("pgrep", "-g", fmt.Sprint(k.daemon.Process.Pid)).Output()
	for _, pid := range append(strings.Fields(string(out)), fmt.Sprint(k.daemon.Process.Pid)) {
		var n int
		if _, err := fmt.Sscan(pid, &n); err == nil {
			_ = unix.Kill(n, unix.SIGQUIT)
		}
	}
	time.Sleep(time.Second) // for the log; they end by it
}

// WaitReady returns when the Engine API answers.
func (k *Kelp) WaitReady(ctx context.Context) error {
	client := k.HTTP()
	client.Timeout = patience
	defer client.CloseIdleConnections()
	return k.until(ctx, "the Engine API answers", func() error {
		select {
		case <-k.ended:
			return stop{errors.New("the daemon has ended")}
		default:
		}
		resp, err := client.Get("http://kelp/_ping")
		if err != nil {
			return err
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return errors.New(resp.Status)
		}
		return nil
	})
}

// HTTP returns a client whose every connection leads to the Engine API.
func (k *Kelp) HTTP() *http.Client {
	return &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", k.answers.way(k.Socket))
		},
		MaxIdleConnsPerHost: 16,
	}}
}

// Status is what `kelp status --json` says.
type Status struct {
	Running   bool   `json:"running"`
	KeeperPID int    `json:"keeper_pid"`
	EnginePID int    `json:"engine_pid"`
	Socket    string `json:"socket"`
	DataRoot  string `json:"data_root"`
	// KeeperGoroutines are those of the keeper.
	KeeperGoroutines int `json:"keeper_goroutines"`
}

// Status asks kelp for its state.
func (k *Kelp) Status(ctx context.Context) (Status, error) {
	var s Status
	out, err := k.Command(ctx, "kelp", "status", "--json").Output()
	if err != nil && len(out) == 0 {
		return s, fmt.Errorf("kelp status: %w", err)
	}
	return s, json.Unmarshal(out, &s)
}

// KillEngine ends the engine as a crash would, and returns when the next one
// answers.
func (k *Kelp) KillEngine(ctx context.Context) error {
	old, err := k.Status(ctx)
	if err != nil {
		return err
	}
	if err := unix.Kill(old.EnginePID, unix.SIGKILL); err != nil {
		return fmt.Errorf("cannot kill the engine, pid %d: %w", old.EnginePID, err)
	}
	if err := k.until(ctx, "a new engine runs", func() error {
		now, err := k.Status(ctx)
		if err == nil && (now.EnginePID == old.EnginePID || now.EnginePID == 0) {
			err = errors.New("not yet")
		}
		return err
	}); err != nil {
		return err
	}
	return k.WaitReady(ctx)
}

// KillKeeper ends the keeper as a crash would, and returns when all that it
// had started is gone.
func (k *Kelp) KillKeeper(ctx context.Context) error {
	s, err := k.Status(ctx)
	if err != nil {
		return err
	}
	if err := unix.Kill(s.KeeperPID, unix.SIGKILL); err != nil {
		return fmt.Errorf("cannot kill the keeper, pid %d: %w", s.KeeperPID, err)
	}
	return k.gone(ctx)
}

// KillDaemon ends `kelp daemon` alone, as a lost login session would.
func (k *Kelp) KillDaemon() error {
	if err := k.daemon.Process.Kill(); err != nil {
		return err
	}
	<-k.ended
	k.ended = nil // the keeper lives on
	return nil
}

// Stop ends everything in the orderly way and checks that nothing is left.
func (k *Kelp) Stop(ctx context.Context) error {
	if out, err := k.Command(ctx, "kelp", "stop").CombinedOutput(); err != nil {
		return fmt.Errorf("kelp stop: %w: %s", err, out)
	}
	return k.gone(ctx)
}

// gone returns when no process of this kelp is left.
func (k *Kelp) gone(ctx context.Context) error {
	k.answers.Close()
	if k.ended != nil {
		if err := k.until(ctx, "kelp daemon ends", func() error {
			select {
			case <-k.ended:
				return nil
			default:
				return errors.New("it still runs")
			}
		}); err != nil {
			return err
		}
	}
	return k.until(ctx, "every process ends", func() error {
		if left := processesIn(k.userNS); len(left) > 0 {
			return fmt.Errorf("processes left: %v", left)
		}
		return nil
	})
}

// Close ends whatever runs and removes the directories.
func (k *Kelp) Close() error {
	for range 3 {
		for _, p := range processesIn(k.userNS) {
			_ = unix.Kill(p.PID, unix.SIGKILL)
		}
	}
	if k.daemon != nil && k.ended != nil {
		_ = k.daemon.Process.Kill()
		<-k.ended
	}
	err := k.gone(context.Background())
	k.held.Close()
	if k.cgroup != nil {
		removeCgroup(k.cgroup)
	}
	return errors.Join(err, removeAll(k.Dir))
}

// Logs returns what kelp wrote to its log, the last 64 KiB of it.
func (k *Kelp) Logs() string {
	b, err := os.ReadFile(k.logPath())
	if err != nil {
		return err.Error()
	}
	if more := len(b) - 64<<10; more > 0 {
		b = b[more:]
	}
	return string(b)
}

func (k *Kelp) logPath() string { return filepath.Join(k.Dir, "daemon.log") }

// stop is an error that until does not wait out.
type stop struct{ error }

func (s stop) Unwrap() error { return s.error }

// until calls check until it returns nil, for as long as patience lasts.
func (k *Kelp) until(ctx context.Context, what string, check func() error) error {
	return Until(ctx, patience, what, check)
}

// Until calls check, more and more rarely, until it returns nil. After limit,
// or when ctx ends, check's last error is the cause of what is returned.
func Until(ctx context.Context, limit time.Duration, what string, check func() error) error {
	deadline := time.Now().Add(limit)
	for pause := 5 * time.Millisecond; ; pause = min(pause*3/2, 200*time.Millisecond) {
		err := check()
		if err == nil {
			return nil
		}
		_, final := errors.AsType[stop](err)
		if final || ctx.Err() != nil || time.Now().After(deadline) {
			return fmt.Errorf("waited in vain until %s: %w", what, err)
		}
		time.Sleep(pause)
	}
}

func isFile(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.Mode().IsRegular()
}
