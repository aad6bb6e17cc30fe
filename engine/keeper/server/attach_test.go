package server

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kelp-engine/kelp/engine/keeper"
)

var c1 = keeper.Ref{Container: "c1"}

// readUntil reads until what was read contains want.
func readUntil(t *testing.T, f *os.File, want string) string {
	t.Helper()
	var got []byte
	b := make([]byte, 4096)
	if err := f.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	for !bytes.Contains(got, []byte(want)) {
		n, err := f.Read(b)
		got = append(got, b[:n]...)
		if err != nil {
			t.Fatalf("read %q, %v; want %q", got, err, want)
		}
	}
	return string(got)
}

func (k *testKeeper) start(r keeper.StartRequest) keeper.Started {
	k.t.Helper()
	s, err := k.Start(k.ctx(), r)
	if err != nil {
		k.t.Fatal(err)
	}
	return s
}

func write(t *testing.T, f *os.File, s string) {
	t.Helper()
	if _, err := f.WriteString(s); err != nil {
		t.Fatal(err)
	}
}

func TestTerminal(t *testing.T) {
	k := newTestKeeper(t)
	conn, ended := k.attach(keeper.AttachRequest{Ref: c1, Stdin: true, Stdout: true, Stderr: true, DetachKeys: []byte{16, 17}, Buffered: []byte("echo early\n")})
	k.start(keeper.StartRequest{ID: "c1", Spec: terminal(k.spec("sh")), Stdio: keeper.Stdio{TTY: true, Stdin: true, StdinOnce: true, Height: 31, Width: 99}})
	readUntil(t, conn, "early\r\n")
	write(t, conn, "stty size\n")
	readUntil(t, conn, "31 99\r\n")
	if err := k.Resize(k.ctx(), c1, 40, 120); err != nil {
		t.Fatal(err)
	}
	write(t, conn, "stty size; tty\n")
	readUntil(t, conn, "40 120\r\n/dev/pts/0\r\n")
	write(t, conn, "\x10\x11")
	if _, err := io.ReadAll(conn); err != nil {
		t.Fatal(err)
	}
	if r := <-ended; !r.Detached {
		t.Error("not detached")
	}
	again, ended := k.attach(keeper.AttachRequest{Ref: c1, Stdin: true, Stdout: true})
	write(t, again, "exit 5\n")
	if _, err := io.ReadAll(again); err != nil {
		t.Fatal(err)
	}
	if r := <-ended; r.Detached {
		t.Error("detached, not ended")
	}
	if task := k.exit(c1); task.ExitCode != 5 {
		t.Errorf("exit code %d", task.ExitCode)
	}
}

// Standard input ends with the first client, and the output stays.
func TestStdinOnce(t *testing.T) {
	k := newTestKeeper(t)
	conn, ended := k.attach(keeper.AttachRequest{Ref: c1, Stdin: true, Stdout: true})
	k.start(keeper.StartRequest{ID: "c1", Spec: k.spec("sh", "-c", "cat; sleep 0.1; echo end"), Stdio: keeper.Stdio{Stdin: true, StdinOnce: true}})
	write(t, conn, "hello\n")
	readUntil(t, conn, "hello\n")
	closeWrite(t, conn)
	if b, err := io.ReadAll(conn); err != nil || string(b) != "end\n" {
		t.Errorf("read %q, %v", b, err)
	}
	if r := <-ended; r.Detached {
		t.Error("detached, not ended")
	}
	k.exit(c1)
}

// Without StdinOnce input stays open for the next client.
func TestStdinStaysOpen(t *testing.T) {
	k := newTestKeeper(t)
	k.start(keeper.StartRequest{ID: "c1", Spec: k.spec("cat"), Stdio: keeper.Stdio{Stdin: true}})
	watcher, _ := k.attach(keeper.AttachRequest{Ref: c1, Stdout: true})
	for _, line := range []string{"one\n", "two\n"} {
		conn, ended := k.attach(keeper.AttachRequest{Ref: c1, Stdin: true, Stdout: true})
		write(t, conn, line)
		readUntil(t, conn, line)
		readUntil(t, watcher, line)
		closeWrite(t, conn)
		if r := <-ended; !r.Detached {
			t.Error("the client that ended its input is still attached")
		}
	}
	if err := k.Signal(k.ctx(), c1, int(unix.SIGKILL), false); err != nil {
		t.Fatal(err)
	}
	k.exit(c1)
}

// Input that the process never reads must not look like a broken connection.
func TestUnreadInput(t *testing.T) {
	k := newTestKeeper(t)
	conn, _ := k.attach(keeper.AttachRequest{Ref: c1, Stdin: true, Stdout: true})
	k.start(keeper.StartRequest{ID: "c1", Spec: k.spec("sh", "-c", "read line; echo $line"), Stdio: keeper.Stdio{Stdin: true, StdinOnce: true}})
	go func() {
		_, _ = conn.WriteString("first\n" + strings.Repeat("x", 1<<20)) // breaks off
	}()
	if b, err := io.ReadAll(conn); err != nil || string(b) != "first\n" {
		t.Errorf("read %q, %v", b, err)
	}
	k.exit(c1)
}

// A client that leaves, before the start or after, holds up nobody.
func TestClientsLeave(t *testing.T) {
	k := newTestKeeper(t)
	early, gone := k.attach(keeper.AttachRequest{Ref: c1, Stdout: true})
	early.Close()
	if r := <-gone; !r.Detached {
		t.Error("a client that left before the start is still attached")
	}
	silent, _ := k.attach(keeper.AttachRequest{Ref: c1, Stdout: true})
	leaves, left := k.attach(keeper.AttachRequest{Ref: c1, Stdout: true})
	k.start(keeper.StartRequest{ID: "c1", Spec: k.spec("sh", "-c", "sleep 0.2; dd if=/dev/zero bs=1000 count=1000 2>/dev/null")})
	leaves.Close()
	if r := <-left; !r.Detached {
		t.Error("a client that left is still attached")
	}
	b, err := io.ReadAll(silent)
	if err != nil || len(b) != 1000*1000 {
		t.Errorf("read %d bytes, %v", len(b), err)
	}
	k.exit(c1)
}

// A client that does not read holds the output up, and loses nothing of it.
func TestSlowClient(t *testing.T) {
	k := newTestKeeper(t)
	conn, _ := k.attach(keeper.AttachRequest{Ref: c1, Stdout: true, Stderr: true, Mux: true})
	log := filepath.Join(t.TempDir(), "log")
	k.start(keeper.StartRequest{ID: "c1", Spec: k.spec("sh", "-c", "i=0; while [ $i -lt 50000 ]; do echo line $i; i=$((i+1)); done; echo done >&2"), Log: keeper.Log{Driver: "json-file", Path: log}})
	time.Sleep(300 * time.Millisecond)
	if task, err := k.Task(k.ctx(), c1); err != nil || task.Status != keeper.Running {
		t.Fatalf("the container was not held up: %+v, %v", task, err)
	}
	streams := demux(t, conn)
	k.exit(c1)
	lines := strings.Split(streams[1], "\n")
	if len(lines) != 50001 || streams[2] != "done\n" {
		t.Fatalf("read %d lines, and %q", len(lines), streams[2])
	}
	for i, line := range lines[:50000] {
		if line != fmt.Sprint("line ", i) {
			t.Fatalf("line %d is %q", i, line)
		}
	}
	if b, err := os.ReadFile(log); err != nil || bytes.Count(b, []byte("\n")) != 50001 {
		t.Errorf("the log has %d lines, %v", bytes.Count(b, []byte("\n")), err)
	}
}

// A client that stops reading holds up neither the container's end for long
// nor its next start, and the log is whole.
func TestStuckClient(t *testing.T) {
	k := newTestKeeper(t)
	stuck, ended := k.attach(keeper.AttachRequest{Ref: c1, Stdout: true})
	log := filepath.Join(t.TempDir(), "log")
	const size = 4 << 20
	r := keeper.StartRequest{ID: "c1", Log: keeper.Log{Driver: "local", Path: log}}
	// Nearly all of it fits into the pipe and the socket after a head start.
	r.Spec = k.spec("sh", "-c", fmt.Sprintf("trap '' PIPE; dd if=/dev/zero bs=1k count=%d 2>/dev/null & sleep 0.3; exit 3", size>>10))
	begin := time.Now()
	k.start(r)
	if task := k.exit(c1); task.ExitCode != 3 || time.Since(begin) > time.Minute { // it would never end
		t.Errorf("exit code %d after %v", task.ExitCode, time.Since(begin))
	}
	select {
	case <-ended:
		t.Error("the client was dropped although nobody needed that")
	default:
	}
	r.Spec = k.spec("echo", "again")
	k.start(r)
	if res := <-ended; !res.Detached {
		t.Error("the stuck client is still attached")
	}
	k.exit(c1)
	b, err := io.ReadAll(stuck)
	if err != nil || len(b) == 0 {
		t.Errorf("read %d bytes, %v", len(b), err)
	}
	written, err := os.ReadFile(log)
	if err != nil || len(written) < len(b) || !bytes.Contains(written[len(written)-100:], []byte("again")) {
		t.Errorf("the log has %d bytes, %v", len(written), err)
	}
}

// A client that does not read keeps the keeper from ending as little.
func TestStuckClientAtTheEnd(t *testing.T) {
	k := newTestKeeper(t)
	_, ended := k.attach(keeper.AttachRequest{Ref: c1, Stdout: true})
	k.start(keeper.StartRequest{ID: "c1", Spec: k.spec("yes")})
	stopped := make(chan struct{})
	go func() { k.tasks.stopAll(); close(stopped) }()
	select {
	case <-stopped:
		<-ended
	case <-time.After(time.Minute):
		t.Error("the keeper waits for the client")
		k.tasks.abandon("")
	}
}

// A client that leaves before the start is forgotten, and has not ended the
// input of the next.
func TestClientLeavesBeforeTheStart(t *testing.T) {
	k := newTestKeeper(t)
	gone, _ := k.attach(keeper.AttachRequest{Ref: c1, Stdin: true})
	gone.Close()
	k.waitFor("the client to be forgotten", func() bool {
		k.tasks.mu.Lock()
		defer k.tasks.mu.Unlock()
		return len(k.tasks.containers) == 0
	})
	conn, _ := k.attach(keeper.AttachRequest{Ref: c1, Stdin: true, Stdout: true})
	k.start(keeper.StartRequest{ID: "c1", Spec: k.spec("cat"), Stdio: keeper.Stdio{Stdin: true, StdinOnce: true}})
	write(t, conn, "hello\n")
	readUntil(t, conn, "hello\n")
	closeWrite(t, conn)
	k.exit(c1)
}

// demux splits a multiplexed stream.
func demux(t *testing.T, conn io.Reader) (streams [3]string) {
	t.Helper()
	var parts [3]strings.Builder
	header := make([]byte, 8)
	for {
		if _, err := io.ReadFull(conn, header); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		if header[0] < 1 || header[0] > 2 {
			t.Fatalf("bad header %v", header)
		}
		if _, err := io.CopyN(&parts[header[0]], conn, int64(binary.BigEndian.Uint32(header[4:]))); err != nil {
			t.Fatal(err)
		}
	}
	for i := range parts {
		streams[i] = parts[i].String()
	}
	return streams
}

// A process that outlives the container's first one, or an executed one, and
// keeps its output open does not hold up the exit for long.
func TestOutputHeldOpen(t *testing.T) {
	k := newTestKeeper(t)
	k.start(keeper.StartRequest{ID: "c1", Spec: k.spec("sleep", "60")})
	ref := keeper.Ref{Container: "c1", Exec: "e"}
	mine, its := k.pair()
	process := k.spec("sh", "-c", "echo out; sleep 60 &").Process
	if _, err := k.Exec(k.ctx(), keeper.ExecRequest{Ref: ref, Process: process, Attach: &keeper.AttachRequest{Stdout: true}}, its, nil); err != nil {
		t.Fatal(err)
	}
	its.Close()
	begin := time.Now()
	if b, err := io.ReadAll(mine); err != nil || string(b) != "out\n" || time.Since(begin) > 50*time.Second { // the other sleeps for 60
		t.Errorf("read %q, %v after %v", b, err, time.Since(begin))
	}
	k.exit(ref)
}

// BenchmarkAttach copies a container's output of lines of 100 bytes to a
// client.
func BenchmarkAttach(b *testing.B) {
	const piece, pieces = 64 << 20, 16
	for _, test := range []struct {
		name string
		mux  bool
		log  string
	}{
		{"raw", false, "none"},
		{"mux", true, "none"},
		{"mux,local", true, "local"},
		{"mux,json-file", true, "json-file"},
	} {
		b.Run(test.name, func(b *testing.B) {
			k := newTestKeeper(b)
			lines := bytes.Repeat([]byte(strings.Repeat("x", 99)+"\n"), piece/100+1)[:piece]
			if err := os.WriteFile(filepath.Join(k.rootfs, "lines"), lines, 0o600); err != nil {
				b.Fatal(err)
			}
			log := keeper.Log{Driver: test.log, Path: filepath.Join(b.TempDir(), "log"), MaxSize: 64 << 20}
			b.SetBytes(pieces * piece)
			for b.Loop() {
				conn, _ := k.attach(keeper.AttachRequest{Ref: c1, Stdout: true, Stderr: true, Mux: test.mux})
				k.start(keeper.StartRequest{ID: "c1", Spec: k.spec("sh", "-c", "exec cat"+strings.Repeat(" /lines", pieces)), Log: log})
				if n, err := io.CopyBuffer(io.Discard, struct{ io.Reader }{conn}, make([]byte, 256<<10)); err != nil || n < pieces*piece {
					b.Fatalf("read %d bytes, %v", n, err)
				}
				k.exit(c1)
			}
		})
	}
}
