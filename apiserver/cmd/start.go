package cmd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/common"
	"golang.org/x/sys/unix"

	"github.com/kelp-engine/kelp/engine/fault"
	"github.com/kelp-engine/kelp/userns/reserve"
)

// startTimeout bounds how long a start of the engine may take.
const startTimeout = time.Minute

// ensureStarted starts `kelp daemon` in the background unless a keeper runs,
// waits until the engine serves, and returns the path of its socket. Of
// several at once, one starts it and the others wait.
func ensureStarted(ctx context.Context, s settings) (socket string, err error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if socket, err := useLive(ctx, s); !errdefs.IsNotFound(err) {
		return socket, err
	}
	unlock, err := lockStart(ctx, s.RuntimeDir)
	if err != nil {
		return "", err
	}
	defer unlock()
	if socket, err := useLive(ctx, s); !errdefs.IsNotFound(err) {
		return socket, err
	}
	if isServed(s.Socket) { // systemd listens, and starts kelp for the first client
		return s.Socket, waitActivated(ctx, s.Socket)
	}
	d, err := startDaemon(s)
	if err != nil {
		return "", err
	}
	if err := d.waitReady(ctx, s); err != nil {
		return "", d.explain(err)
	}
	return s.Socket, nil
}

// useLive returns the socket of a keeper that runs, and whose engine is ready;
// no keeper is errdefs.ErrNotFound, also when one ends meanwhile.
func useLive(ctx context.Context, s settings) (socket string, err error) {
	for {
		r, err := findLive(ctx, s)
		if err == nil {
			err = r.matches(s)
		}
		if err != nil {
			return "", timedOut(err)
		}
		broken := r.client.WaitEngine(ctx)
		if broken == nil {
			return r.Socket, nil
		}
		if now, err := findLive(ctx, s); err == nil && now.PID == r.PID {
			return "", timedOut(broken)
		}
	}
}

func timedOut(err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return fault.Unavailable("the engine did not become ready in %s", startTimeout).WithHint("see what its log says")
	}
	return err
}

// lockStart makes starts by several commands at once one after the other.
func lockStart(ctx context.Context, runtimeDir string) (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(runtimeDir, "start.lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot lock the start of the engine: %w", err)
	}
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			f.Close()
			return nil, fmt.Errorf("cannot lock the start of the engine: %w", err)
		}
		select {
		case <-ctx.Done():
			f.Close()
			return nil, timedOut(ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// isServed says whether somebody listens on the socket.
func isServed(socket string) bool {
	conn, err := net.Dial("unix", socket)
	if err != nil {
		return false
	}
	conn.Close()
	return true
}

// waitActivated makes systemd start kelp, and waits for its answer.
func waitActivated(ctx context.Context, socket string) error {
	err := get(ctx, socket, "/_ping", nil)
	if err == nil {
		return nil
	}
	return fault.Unavailable("another program listens on %s but no kelp answers: %w", socket, err).
		WithHint("if it is systemd, see 'journalctl --user --unit kelp'")
}

// get makes a request to the Engine API and hands the answer's body to read.
func get(ctx context.Context, socket, path string, read func(io.Reader) error) error {
	transport := &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://kelp"+path, nil)
	if err != nil {
		return err
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	switch {
	case resp.StatusCode != http.StatusOK:
		return apiError(resp)
	case read != nil:
		return read(resp.Body)
	}
	return nil
}

// apiError is what the Engine API says in place of an answer.
func apiError(resp *http.Response) error {
	var said common.ErrorResponse
	if err := json.NewDecoder(resp.Body).Decode(&said); err != nil || said.Message == "" {
		return errors.New(resp.Status)
	}
	return errors.New(said.Message)
}

// daemon is a `kelp daemon` that was started in the background.
type daemon struct {
	log   string        // path of its log
	from  int64         // where in the log it began
	ended chan struct{} // closed when it has ended
}

func startDaemon(s settings) (*daemon, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	if err := checkDataRoot(s.DataRoot); err != nil {
		return nil, err
	}
	d := &daemon{ended: make(chan struct{})}
	log, err := d.openLog(s.DataRoot)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	args := []string{"daemon", "--data-root", s.DataRoot, "--socket", s.Socket}
	if s.Log.Level != "" {
		args = append(args, "--log-level", s.Log.Level)
	}
	if s.Log.Format != "" {
		args = append(args, "--log-format", s.Log.Format)
	}
	cmd := exec.Command(self, args...)
	cmd.Args[0] = "kelp" // whatever the file is called: one named docker would be the client
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Dir = "/" // no file system is kept busy
	cmd.Env = append(slices.DeleteFunc(os.Environ(), isManagers), logFileEnv+"="+d.log)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // a terminal's hang-up does not reach it
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("cannot start the daemon: %w", err)
	}
	go func() { _ = cmd.Wait(); close(d.ended) }()
	return d, nil
}

// isManagers says whether a variable is what a service manager tells to the
// process that it starts, and nobody else.
func isManagers(variable string) bool {
	return strings.HasPrefix(variable, "LISTEN_") || strings.HasPrefix(variable, "NOTIFY_SOCKET=")
}

func (d *daemon) openLog(dataRoot string) (*os.File, error) {
	d.log = filepath.Join(dataRoot, "kelp.log")
	err := os.MkdirAll(dataRoot, 0o700)
	var log *os.File
	if err == nil {
		log, err = os.OpenFile(d.log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	}
	if err == nil {
		d.from, err = log.Seek(0, io.SeekEnd)
	}
	if err == nil && !reserve.In(dataRoot).Room() { // the daemon could not even say so
		log.Close()
		err = unix.ENOSPC
	}
	if err != nil {
		return nil, fault.Unavailable("cannot write to the data root %s: %w", dataRoot, err).
			WithHint("make room there, or choose a directory that you can write to with --data-root")
	}
	return log, nil
}

// waitReady waits for the daemon's keeper, and then for its engine.
func (d *daemon) waitReady(ctx context.Context, s settings) error {
	for {
		if r, err := hello(ctx, s.RuntimeDir); err == nil {
			return r.client.WaitEngine(ctx)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-d.ended:
			return fault.Unavailable("the daemon ended at its start")
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// explain tells why a start failed, in the daemon's own words when it has
// ended and said why.
func (d *daemon) explain(err error) error {
	select {
	case <-d.ended:
	case <-time.After(10 * time.Second): // a keeper whose engine cannot start ends at once
	}
	said := tail(d.log, d.from)
	if reasons := lastWords(said); reasons != "" {
		return errors.New(reasons)
	}
	if said == "" {
		return fmt.Errorf("%w (its log %s is empty)", timedOut(err), d.log)
	}
	return fmt.Errorf("%w; the end of its log %s:\n%s", timedOut(err), d.log, said)
}

// lastWords are the reasons that `kelp daemon` and its keeper gave for ending.
func lastWords(log string) string {
	var reasons []string
	for line := range strings.Lines(log) {
		if reason, ok := strings.CutPrefix(strings.TrimSpace(line), "kelp: "); ok {
			reasons = append(reasons, reason)
		}
	}
	return strings.Join(reasons, "\n")
}

// tail returns what was written to the log at path since the offset from, its
// last 4 KiB at most.
func tail(path string, from int64) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return ""
	}
	if size < from { // it was rotated meanwhile
		from = 0
	}
	b, err := io.ReadAll(io.NewSectionReader(f, max(from, size-4096), 4096))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}
