// Package activation tests kelp as a service of systemd: its listening socket
// is handed over, and it says when it is ready.
package activation

import (
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kelp-engine/kelp/test/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }

const patience = 2 * time.Minute

func TestSocketActivation(t *testing.T) {
	k, err := harness.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := k.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := os.Mkdir(filepath.Dir(k.Socket), 0o700); err != nil {
		t.Fatal(err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: k.Socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	socket, err := l.File()
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	states, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(k.Dir, "notify"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer states.Close()

	// A client that connects first has to wait, and is then served.
	answered := make(chan error, 1)
	client := k.HTTP()
	defer client.CloseIdleConnections()
	go func() {
		resp, err := client.Get("http://kelp/_ping")
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode != http.StatusOK {
				err = &net.AddrError{Err: resp.Status}
			}
		}
		answered <- err
	}()

	// systemd names the process that a socket is for, so the shell becomes it.
	cmd := k.Command(t.Context(), "sh", "-c", `LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=docker exec "$0" daemon`, harness.Binary())
	cmd.Env = append(cmd.Env, "NOTIFY_SOCKET="+filepath.Join(k.Dir, "notify"))
	cmd.ExtraFiles = []*os.File{socket}
	var log strings.Builder
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()

	expectState(t, states, "READY=1")
	select {
	case err := <-answered:
		if err != nil {
			t.Errorf("the waiting client: %v", err)
		}
	case <-time.After(patience):
		t.Error("the waiting client gets no answer")
	}
	status, err := k.Status(t.Context())
	if err != nil || !status.Running || status.Socket != k.Socket {
		t.Errorf("status %+v, %v", status, err)
	}
	// env finds the running kelp and leaves systemd's socket alone.
	if out, err := k.Command(t.Context(), "kelp", "env", "--shell", "sh").Output(); err != nil || !strings.Contains(string(out), k.Socket) {
		t.Errorf("kelp env: %s, %v", out, err)
	}

	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	expectState(t, states, "STOPPING=1")
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("the daemon ended: %v\n%s", err, log.String())
		}
	case <-time.After(patience):
		t.Fatal("the daemon does not end")
	}
	if _, err := os.Stat(k.Socket); err != nil {
		t.Errorf("systemd's socket: %v", err)
	}
}

func expectState(t *testing.T, l *net.UnixConn, want string) {
	t.Helper()
	if err := l.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 4096)
	n, err := l.Read(buf)
	if err != nil || string(buf[:n]) != want {
		t.Fatalf("the service manager was told %q, %v; want %s", buf[:n], err, want)
	}
}

// TestUnits checks what install writes with systemd's own parser.
func TestUnits(t *testing.T) {
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		t.Skip(err)
	}
	k, err := harness.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := k.Close(); err != nil {
			t.Error(err)
		}
	})
	for _, want := range []string{"wrote the units", "are there already"} {
		out, err := k.Command(t.Context(), "kelp", "install").CombinedOutput()
		if err != nil || !strings.Contains(string(out), want) {
			t.Fatalf("install: %v, without %q:\n%s", err, want, out)
		}
	}
	dir := filepath.Join(k.Home, ".config", "systemd", "user")
	out, err := k.Command(t.Context(), "systemd-analyze", "--user", "verify",
		filepath.Join(dir, "kelp.service"), filepath.Join(dir, "kelp.socket")).CombinedOutput()
	if strings.Contains(string(out), "kelp") {
		t.Errorf("systemd says of the units: %v\n%s", err, out)
	}
	docker := k.Command(t.Context(), "kelp", "docker", "context", "inspect", "kelp", "--format", "{{.Endpoints.docker.Host}}")
	if out, err := docker.CombinedOutput(); err != nil || strings.TrimSpace(string(out)) != "unix://"+k.Socket {
		t.Errorf("the docker context: %v\n%s", err, out)
	}
	for _, want := range []string{"removed the units", "there are no units"} {
		out, err := k.Command(t.Context(), "kelp", "uninstall").CombinedOutput()
		if err != nil || !strings.Contains(string(out), want) {
			t.Errorf("uninstall: %v, without %q:\n%s", err, want, out)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left in %s: %v, %v", dir, left, err)
	}
}
