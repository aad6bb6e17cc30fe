package server

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/kelp-engine/kelp/engine/keeper"
)

func TestStart(t *testing.T) {
	k := newTestKeeper(t)
	for _, test := range []struct {
		name string
		args []string
		out  string
		code int
	}{
		{"true", []string{"true"}, "", 0},
		{"exit code", []string{"sh", "-c", "exit 42"}, "", 42},
		{"killed", []string{"sh", "-c", "sh -c 'kill -9 $$'; exit $?"}, "Killed\n", 137},
		{"both streams", []string{"sh", "-c", "echo out; sleep 0.1; echo err >&2"}, "out\nerr\n", 0},
		{"no files leak in", []string{"sh", "-c", "ls /proc/self/fd"}, "0\n1\n2\n3\n", 0}, // 3 is ls's own
		{"root in its namespace", []string{"id", "-u"}, "0\n", 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			k.t = t
			out, task := k.run(keeper.StartRequest{ID: "c1", Spec: k.spec(test.args...)})
			if out != test.out || task.ExitCode != test.code {
				t.Errorf("got %q and exit code %d, want %q and %d", out, task.ExitCode, test.out, test.code)
			}
			if task.PID == 0 || task.StartTime == 0 || task.ExitedAt.Before(task.At) {
				t.Errorf("bad identity or times: %+v", task)
			}
		})
	}
	if tasks, err := k.Tasks(k.ctx()); err != nil || len(tasks) != 0 {
		t.Errorf("tasks left: %v, %v", tasks, err)
	}
	if len(k.tasks.containers) != 0 {
		t.Errorf("containers left: %v", k.tasks.containers)
	}
}

// A signal right after the start meets the program: as the first process of
// its namespace it need not heed SIGTERM, but it is not ended by what was
// there before it.
func TestSignalRightAfterStart(t *testing.T) {
	k := newTestKeeper(t)
	for range 5 {
		started := k.start(keeper.StartRequest{ID: "c1", Spec: k.spec("sleep", "60")})
		if err := k.Signal(k.ctx(), c1, int(unix.SIGTERM), false); err != nil {
			t.Fatal(err)
		}
		for { // until it sleeps, or is gone
			line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", started.PID))
			if err != nil || len(line) == 0 || strings.HasPrefix(string(line), "sleep") {
				break
			}
		}
		_ = k.Signal(k.ctx(), c1, int(unix.SIGKILL), false)
		if task := k.exit(c1); task.ExitCode != 137 {
			t.Errorf("exit code %d, want 137 of SIGKILL", task.ExitCode)
		}
	}
}

func TestStartFails(t *testing.T) {
	k := newTestKeeper(t)
	conn, _ := k.attach(keeper.AttachRequest{Ref: keeper.Ref{Container: "c1"}, Stdout: true})
	_, err := k.Start(k.ctx(), keeper.StartRequest{ID: "c1", Spec: k.spec("nonesuch")})
	if !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), `exec: "nonesuch": executable file not found in $PATH`) {
		t.Errorf("wrong error: %v", err)
	}
	// The client waits for a start that works.
	if _, err := k.Start(k.ctx(), keeper.StartRequest{ID: "c1", Spec: k.spec("echo", "hello")}); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(conn); err != nil || string(b) != "hello\n" {
		t.Errorf("read %q, %v", b, err)
	}
	k.exit(keeper.Ref{Container: "c1"})
}

func TestExec(t *testing.T) {
	k := newTestKeeper(t)
	if _, err := k.Start(k.ctx(), keeper.StartRequest{ID: "c1", Spec: k.spec("sleep", "60")}); err != nil {
		t.Fatal(err)
	}
	if _, err := k.Start(k.ctx(), keeper.StartRequest{ID: "c1", Spec: k.spec("sleep", "60")}); !errdefs.IsConflict(err) {
		t.Errorf("second start: %v", err)
	}
	ref := keeper.Ref{Container: "c1", Exec: "e1"}
	exec := func(stdin string, args ...string) (string, error) {
		mine, its := k.pair()
		defer its.Close()
		_, err := k.Exec(k.ctx(), keeper.ExecRequest{
			Ref:     ref,
			Process: &specs.Process{Args: args, Env: []string{"PATH=/bin"}, Cwd: "/"},
			Stdio:   keeper.Stdio{Stdin: stdin != "", StdinOnce: true},
			Attach:  &keeper.AttachRequest{Stdin: stdin != "", Stdout: true, Buffered: []byte(stdin)},
		}, its, nil)
		if err != nil {
			return "", err
		}
		its.Close()
		closeWrite(t, mine)
		b, err := io.ReadAll(mine)
		// Whoever sees the output end can ask for the exit code.
		if task, err := k.Task(k.ctx(), ref); err != nil || task.Status != keeper.Exited {
			t.Errorf("after its output the process is %+v, %v", task, err)
		}
		return string(b), errors.Join(err)
	}
	out, err := exec("hello", "sh", "-c", "cat; exit 3")
	if task := k.exit(ref); err != nil || out != "hello" || task.ExitCode != 3 {
		t.Errorf("got %q, %v, exit code %d", out, err, task.ExitCode)
	}
	if _, err := exec("", "nonesuch"); !errdefs.IsInvalidArgument(err) {
		t.Errorf("missing command: %v", err)
	}
	if err := k.Signal(k.ctx(), keeper.Ref{Container: "c1"}, 9, false); err != nil {
		t.Fatal(err)
	}
	if task := k.exit(keeper.Ref{Container: "c1"}); task.ExitCode != 137 {
		t.Errorf("exit code %d after SIGKILL", task.ExitCode)
	}
	if err := k.Signal(k.ctx(), keeper.Ref{Container: "c1"}, 9, false); !errdefs.IsNotFound(err) {
		t.Errorf("signal to a forgotten process: %v", err)
	}
	if _, err := exec("", "true"); !errdefs.IsConflict(err) {
		t.Errorf("exec in an ended container: %v", err)
	}
}

// Many starts and executions at once leave nothing behind.
func TestManyAtOnce(t *testing.T) {
	k := newTestKeeper(t)
	k.run(keeper.StartRequest{ID: "warm", Spec: withDefaultProfile(t, k.spec("true"))})
	files := openFiles(t)
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for j := range 5 {
				id := fmt.Sprintf("c%d-%d", i, j)
				spec := withDefaultProfile(t, k.spec("sh", "-c", "read x; exit 7"))
				if _, err := k.Start(k.ctx(), keeper.StartRequest{ID: id, Spec: spec, Stdio: keeper.Stdio{Stdin: true, StdinOnce: true}}); err != nil {
					t.Error(err)
					return
				}
				exec := keeper.Ref{Container: id, Exec: "e"}
				if _, err := k.Exec(k.ctx(), keeper.ExecRequest{Ref: exec, Process: k.spec("sh", "-c", "exit 5").Process}, nil, nil); err != nil {
					t.Error(err)
					return
				}
				if task := k.exit(exec); task.ExitCode != 5 {
					t.Errorf("%s: exec's exit code %d", id, task.ExitCode)
				}
				conn, _ := k.attach(keeper.AttachRequest{Ref: keeper.Ref{Container: id}, Stdin: true})
				conn.Close()
				if task := k.exit(keeper.Ref{Container: id}); task.ExitCode != 7 {
					t.Errorf("%s: exit code %d", id, task.ExitCode)
				}
			}
		})
	}
	all.Wait()
	k.waitFor("all files to be closed", func() bool { return openFiles(t) <= files+2 })
	if states, err := os.ReadDir(filepath.Join(k.dir, "containers")); err != nil || len(states) != 0 {
		t.Errorf("left of libcontainer: %v, %v", states, err)
	}
	k.tasks.mu.Lock()
	defer k.tasks.mu.Unlock()
	if len(k.tasks.containers) != 0 {
		t.Errorf("containers left: %v", k.tasks.containers)
	}
}

func openFiles(t *testing.T) int {
	t.Helper()
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(files)
}
