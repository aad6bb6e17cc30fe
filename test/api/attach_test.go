package api

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/api/pkg/stdcopy"
	"golang.org/x/net/websocket"

	"github.com/kelp-engine/kelp/test/harness"
	"github.com/kelp-engine/kelp/test/images"
)

// newKelp starts a kelp with a busybox image.
func newKelp(t *testing.T) *harness.Kelp {
	t.Helper()
	k, err := harness.New()
	if err != nil {
		t.Fatal(err)
	}
	answers := k.Judge()
	t.Cleanup(func() {
		for _, f := range answers.Faults() {
			t.Error("the API's definition does not allow this answer: " + f)
		}
		if t.Failed() {
			t.Log(k.Logs())
		}
		_ = k.Close()
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := k.Start(ctx); err != nil {
		t.Fatal(err)
	}
	archive := k.Dir + "/busybox.tar"
	if err := (images.Recipe{Name: "busybox", Ref: "busybox:latest"}).Write(archive); err != nil {
		t.Fatal(err)
	}
	docker(t, k, "load", "-q", "-i", archive)
	return k
}

func docker(t *testing.T, k *harness.Kelp, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	out, err := k.Docker(ctx, args...)
	if err != nil {
		t.Fatalf("docker %v: %v: %s", args, err, out)
	}
	return strings.TrimSpace(out)
}

func dial(t *testing.T, k *harness.Kelp) net.Conn {
	t.Helper()
	conn, err := net.Dial("unix", k.Tapped)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
	return conn
}

func TestWebsocket(t *testing.T) {
	k := newKelp(t)
	docker(t, k, "create", "-i", "--name", "c1", "--network", "none", "busybox", "sh", "-c", "cat; echo err >&2")
	config, err := websocket.NewConfig("ws://kelp/v1.44/containers/c1/attach/ws?stream=1&stdin=1&stdout=1&stderr=1", "http://kelp")
	if err != nil {
		t.Fatal(err)
	}
	ws, err := websocket.NewClient(config, dial(t, k))
	if err != nil {
		t.Fatal(err)
	}
	docker(t, k, "start", "c1")
	if _, err := ws.Write([]byte("hello\n")); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 6)
	if _, err := io.ReadFull(ws, b); err != nil || string(b) != "hello\n" {
		t.Fatalf("read %q, %v", b, err)
	}
	docker(t, k, "kill", "c1")
	if rest, err := io.ReadAll(ws); err != nil || len(rest) > 0 {
		t.Errorf("after the end: %q, %v", rest, err)
	}

	config.Location.Path = "/containers/nosuch/attach/ws"
	if _, err := websocket.NewClient(config, dial(t, k)); err == nil {
		t.Error("attached to a container that is not there")
	}
}

// take makes a request that takes the connection over, with input sent along
// at once, and returns the answer and what follows it.
func take(t *testing.T, k *harness.Kelp, path, body, upgrade, input string) (*http.Response, net.Conn, *bufio.Reader) {
	t.Helper()
	conn := dial(t, k)
	head := fmt.Sprintf("POST %s HTTP/1.1\r\nHost: kelp\r\nContent-Type: application/json\r\nContent-Length: %d\r\n%s\r\n%s", path, len(body), upgrade, body)
	if _, err := io.WriteString(conn, head+input); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(conn)
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	return resp, conn, r
}

const upgrade = "Connection: Upgrade\r\nUpgrade: tcp\r\n"

// Clients may ask to upgrade or not, and send input along with the request.
func TestHijack(t *testing.T) {
	k := newKelp(t)
	docker(t, k, "run", "-d", "--name", "c1", "--network", "none", "busybox", "sleep", "600")
	for _, row := range []struct {
		name, upgrade, version, media string
		status                        int
	}{
		{"upgrade", upgrade, "1.44", "application/vnd.docker.multiplexed-stream", 101},
		{"no upgrade", "", "1.44", "application/vnd.docker.multiplexed-stream", 200},
		{"an old client", upgrade, "1.41", "application/vnd.docker.raw-stream", 101},
	} {
		t.Run(row.name, func(t *testing.T) {
			create := `{"Cmd":["sh","-c","cat; echo err >&2; exit 3"],"AttachStdin":true,"AttachStdout":true,"AttachStderr":true}`
			exec := createExec(t, k, create)
			resp, conn, r := take(t, k, "/v"+row.version+"/exec/"+exec+"/start", `{"Detach":false}`, row.upgrade, "early ")
			if resp.StatusCode != row.status || resp.Header.Get("Content-Type") != row.media {
				t.Errorf("answered %s, %s", resp.Status, resp.Header.Get("Content-Type"))
			}
			if _, err := io.WriteString(conn, "late"); err != nil {
				t.Fatal(err)
			}
			if err := conn.(*net.UnixConn).CloseWrite(); err != nil {
				t.Fatal(err)
			}
			var stdout, stderr bytes.Buffer
			if _, err := stdcopy.StdCopy(&stdout, &stderr, r); err != nil {
				t.Error(err)
			}
			if stdout.String() != "early late" || stderr.String() != "err\n" {
				t.Errorf("stdout %q, stderr %q", stdout.String(), stderr.String())
			}
			state := get(t, k, "/exec/"+exec+"/json")
			if !strings.Contains(state, `"ExitCode":3`) || !strings.Contains(state, `"Running":false`) {
				t.Errorf("right after the output: %s", state)
			}
		})
	}
}

// createExec prepares an exec in container c1 and returns its id.
func createExec(t *testing.T, k *harness.Kelp, body string) string {
	t.Helper()
	resp, err := k.HTTP().Post("http://kelp/containers/c1/exec", "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var exec struct{ ID string }
	if err := json.NewDecoder(resp.Body).Decode(&exec); err != nil || resp.StatusCode != http.StatusCreated {
		t.Fatal(resp.Status, err)
	}
	return exec.ID
}

// No output comes along with the head of an answer, however late that is read:
// docker-py would lose it.
func TestTheHeadComesAlone(t *testing.T) {
	k := newKelp(t)
	docker(t, k, "run", "-d", "--name", "c1", "--network", "none", "busybox", "sleep", "600")
	exec := createExec(t, k, `{"Cmd":["echo","hello"],"AttachStdout":true}`)
	conn, err := net.Dial("unix", k.Socket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	const body = `{"Detach":false}`
	fmt.Fprintf(conn, "POST /exec/%s/start HTTP/1.1\r\nHost: kelp\r\nContent-Type: application/json\r\nContent-Length: %d\r\n%s\r\n%s", exec, len(body), upgrade, body)
	time.Sleep(300 * time.Millisecond) // the command would have ended long ago
	head := make([]byte, 64<<10)
	n, err := conn.Read(head)
	if err != nil || !strings.HasSuffix(string(head[:n]), "\r\n\r\n") {
		t.Errorf("at first came %q, %v", head[:n], err)
	}
	var stdout bytes.Buffer
	if _, err := stdcopy.StdCopy(&stdout, io.Discard, conn); err != nil || stdout.String() != "hello\n" {
		t.Errorf("then came %q, %v", &stdout, err)
	}
}

func get(t *testing.T, k *harness.Kelp, path string) string {
	t.Helper()
	resp, err := k.HTTP().Get("http://kelp" + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// A follower that reads slowly makes kelp wait, not grow or leave out lines.
func TestSlowFollower(t *testing.T) {
	k := newKelp(t)
	const lines = 400_000 // 40 MB
	line := strings.Repeat("0123456789", 10)
	docker(t, k, "run", "-d", "--name", "c1", "--network", "none", "busybox", "sh", "-c", fmt.Sprintf("yes %s | head -n %d", line, lines))
	conn := dial(t, k)
	fmt.Fprintf(conn, "GET /v1.44/containers/c1/logs?follow=1&stdout=1 HTTP/1.1\r\nHost: kelp\r\n\r\n")
	r := bufio.NewReaderSize(conn, 4<<10)
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(2 * time.Second) // the container is done long before
	status, err := k.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if rss := residentKiB(t, status.EnginePID); rss > 128<<10 {
		t.Errorf("the engine takes %d KiB with one slow follower", rss)
	}
	var out bytes.Buffer
	if _, err := stdcopy.StdCopy(&out, io.Discard, resp.Body); err != nil {
		t.Fatal(err)
	}
	if want := lines * (len(line) + 1); out.Len() != want || strings.Count(out.String(), line+"\n") != lines {
		t.Errorf("got %d bytes, want %d", out.Len(), want)
	}
}

func residentKiB(t *testing.T, pid int) (kib int) {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if _, err := fmt.Sscanf(line, "VmRSS: %d kB", &kib); err == nil {
			return kib
		}
	}
	t.Fatal("no VmRSS")
	return 0
}
