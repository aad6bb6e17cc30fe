package cmd

import (
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
	"syscall"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/kelp-engine/kelp/engine/fault"
	"github.com/kelp-engine/kelp/engine/keeper"
)

// startTimeout bounds how long a start of the engine may take.
const startTimeout = time.Minute

var envCommand = &cli.Command{
	Name:        "env",
	Usage:       "start the engine if needed and print shell code that points docker clients to it",
	Description: "Use it as: eval $(kelp env)",
	Flags: append([]cli.Flag{
		&cli.StringFlag{Name: "shell", Usage: "`SHELL` to print code for: bash, zsh, fish or csh", DefaultText: "from $SHELL"},
		&cli.BoolFlag{Name: "no-start", Usage: "do not start the engine"},
	}, settingsFlags...),
	Action: func(c *cli.Context) error {
		s, err := readSettings(c)
		if err != nil {
			return err
		}
		line, err := exportLine(c.String("shell"), "DOCKER_HOST", "unix://"+s.Socket)
		if err != nil {
			return err
		}
		if !c.Bool("no-start") {
			if err := ensureStarted(c.Context, s); err != nil {
				return err
			}
		}
		_, err = fmt.Fprintln(c.App.Writer, line)
		return err
	},
}

// exportLine is the code that sets an environment variable in a shell; shell
// "" is that of $SHELL.
func exportLine(shell, name, value string) (string, error) {
	given := shell
	if given == "" {
		given = filepath.Base(os.Getenv("SHELL"))
	}
	quoted := "'" + strings.ReplaceAll(value, "'", `'\''`) + "'"
	switch given {
	case "fish":
		value = strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(value)
		return fmt.Sprintf("set -gx %s '%s';", name, value), nil
	case "csh", "tcsh":
		return fmt.Sprintf("setenv %s %s;", name, quoted), nil
	case "bash", "zsh", "sh", "dash", "ksh", "":
		return fmt.Sprintf("export %s=%s", name, quoted), nil
	}
	if shell == "" { // an unusual login shell: assume a POSIX one
		return fmt.Sprintf("export %s=%s", name, quoted), nil
	}
	return "", fault.InvalidArgument("unknown shell %q", shell).WithHint("use bash, zsh, fish or csh")
}

// ensureStarted starts `kelp daemon` in the background unless a keeper runs,
// and waits until the Engine API answers.
func ensureStarted(ctx context.Context, s settings) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	client := keeper.NewClient(s.RuntimeDir)
	if _, err := client.Hello(ctx); err == nil {
		return waitReady(ctx, s, nil)
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(s.DataRoot, 0o700); err != nil {
		return fmt.Errorf("cannot make the data root: %w", err)
	}
	logPath := filepath.Join(s.DataRoot, "kelp.log")
	log, err := os.OpenFile(logPath, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("cannot open the log: %w", err)
	}
	defer log.Close()
	from, err := log.Seek(0, 2)
	if err != nil {
		return err
	}
	args := []string{"daemon", "--data-root", s.DataRoot, "--socket", s.Socket}
	if s.Debug {
		args = append(args, "--debug")
	}
	cmd := exec.Command(self, args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("cannot start the daemon: %w", err)
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	if err := waitReady(ctx, s, ended); err != nil {
		return fmt.Errorf("%w\n%s", err, tail(logPath, from))
	}
	return nil
}

// waitReady waits for the Engine API to answer, or ended.
func waitReady(ctx context.Context, s settings, ended <-chan struct{}) error {
	h := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", s.Socket)
		},
	}}
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://kelp/_ping", nil)
		if err != nil {
			return err
		}
		resp, err := h.Do(req)
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
			err = errors.New(resp.Status)
		}
		select {
		case <-ctx.Done():
			return fault.Unavailable("the engine does not answer on %s: %w", s.Socket, err)
		case <-ended:
			return fault.Unavailable("the daemon ended at its start")
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// tail returns what was written to the log at path since the offset from, its
// last 4 KiB at most.
func tail(path string, from int64) string {
	b, err := os.ReadFile(path)
	if err != nil || int64(len(b)) <= from {
		return ""
	}
	b = b[from:]
	if len(b) > 4096 {
		b = b[len(b)-4096:]
	}
	return strings.TrimSpace(string(b))
}

var stopCommand = &cli.Command{
	Name:  "stop",
	Usage: "stop all containers and the engine",
	Flags: settingsFlags,
	Action: func(c *cli.Context) error {
		s, err := readSettings(c)
		if err != nil {
			return err
		}
		client := keeper.NewClient(s.RuntimeDir)
		if _, err := client.Hello(c.Context); err != nil {
			return fault.NotFound("kelp does not run")
		}
		return stopKeeper(c.Context, client)
	},
}

// status is the JSON of `kelp status --json`.
type status struct {
	Running   bool    `json:"running"`
	Version   string  `json:"version"`
	KeeperPID int     `json:"keeper_pid,omitempty"`
	EnginePID int     `json:"engine_pid,omitempty"`
	Socket    string  `json:"socket"`
	DataRoot  string  `json:"data_root"`
	UptimeS   float64 `json:"uptime_s,omitempty"`
}

var statusCommand = &cli.Command{
	Name:  "status",
	Usage: "say whether the engine runs, and where",
	Flags: append([]cli.Flag{&cli.BoolFlag{Name: "json", Usage: "print JSON"}}, settingsFlags...),
	Action: func(c *cli.Context) error {
		s, err := readSettings(c)
		if err != nil {
			return err
		}
		st := status{Version: c.App.Version, Socket: s.Socket, DataRoot: s.DataRoot}
		if h, err := keeper.NewClient(s.RuntimeDir).Hello(c.Context); err == nil {
			st = status{true, h.Version, h.PID, h.EnginePID, h.Socket, h.DataRoot, time.Since(time.Unix(0, h.StartedAt)).Seconds()}
		}
		if c.Bool("json") {
			return json.NewEncoder(c.App.Writer).Encode(st)
		}
		if !st.Running {
			_, err = fmt.Fprintln(c.App.Writer, "kelp does not run")
			return err
		}
		_, err = fmt.Fprintf(c.App.Writer, "kelp %s runs (keeper %d, engine %d)\nsocket     %s\ndata root  %s\n", st.Version, st.KeeperPID, st.EnginePID, st.Socket, st.DataRoot)
		return err
	},
}
