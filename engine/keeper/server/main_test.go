package server

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/kelp-engine/kelp/engine/keeper"
	"github.com/kelp-engine/kelp/engine/runtime"
	"github.com/kelp-engine/kelp/userns/cgroup"
)

const insideEnv = "KELP_TEST_INSIDE"

// TestMain runs the tests in a user and mount namespace of an ordinary user,
// from sealed memory, as the keeper runs.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "init" {
		fmt.Fprintln(os.Stderr, runtime.Init())
		os.Exit(255)
	}
	if len(os.Args) > 1 && os.Args[1] == runtime.CompileStage {
		if err := runtime.CompileSeccomp(); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		os.Exit(0)
	}
	if os.Getenv(insideEnv) == "" {
		code, err := runInside()
		if err != nil {
			fmt.Fprintln(os.Stderr, "cannot enter a user namespace:", err)
			code = 1
		}
		os.Exit(code)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		panic(err)
	}
	flag.Parse()
	if !testing.Verbose() {
		slog.SetDefault(slog.New(slog.DiscardHandler))
	}
	adoptOrphans()
	if err := prepareCgroups(""); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(m.Run())
}

func runInside() (int, error) {
	uid, gid := os.Getuid(), os.Getgid()
	maps := 1
	if uid == 0 { // as an ordinary user, but with the ids that newuidmap would give
		u, err := user.Lookup("nobody")
		if err != nil {
			return 1, err
		}
		uid, _ = strconv.Atoi(u.Uid)
		gid, _ = strconv.Atoi(u.Gid)
		maps = 2
	}
	tmp, err := os.MkdirTemp("/tmp", "kelp-test-")
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(tmp)
	if err := os.Chown(tmp, uid, gid); err != nil {
		return 1, err
	}
	program, err := sealed("/proc/self/exe")
	if err != nil {
		return 1, err
	}
	args := slices.DeleteFunc(os.Args[1:], func(arg string) bool {
		return strings.HasPrefix(arg, "-test.testlogfile=") // only the real user may write it
	})
	cmd := exec.Command("/proc/self/fd/3", args...)
	cmd.Args[0] = os.Args[0]
	cmd.ExtraFiles = []*os.File{program}
	cmd.Env = append(os.Environ(), insideEnv+"=1", "TMPDIR="+tmp)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: uid, Size: 1}, {ContainerID: 1, HostID: 500000, Size: 65536}}[:maps],
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: gid, Size: 1}, {ContainerID: 1, HostID: 500000, Size: 65536}}[:maps],
		Credential:  &syscall.Credential{NoSetGroups: maps == 1},
		Pdeathsig:   syscall.SIGKILL,
	}
	if group, remove := delegate(uid, gid); group != nil {
		defer remove()
		cmd.SysProcAttr.UseCgroupFD, cmd.SysProcAttr.CgroupFD = true, int(group.Fd())
	}
	err = cmd.Run() // in the main thread, see engine/runtime: the parent-death signal is its
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return max(exit.ExitCode(), 1), nil
	}
	return 0, err
}

// delegate makes a cgroup for the user, as systemd does, and returns the one
// in it for kelp's own processes; nil when we may not.
func delegate(uid, gid int) (group *os.File, remove func()) {
	for _, mount := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
		base := filepath.Join(mount, fmt.Sprintf("kelp-unit-test-%d", os.Getpid()))
		own := filepath.Join(base, cgroup.Evacuation)
		if _, err := os.Stat(filepath.Join(mount, "cgroup.procs")); err != nil || os.MkdirAll(own, 0o755) != nil {
			continue
		}
		for _, path := range []string{base, base + "/cgroup.procs", base + "/cgroup.subtree_control", own, own + "/cgroup.procs"} {
			if err := os.Chown(path, uid, gid); err != nil {
				continue
			}
		}
		if f, err := os.Open(own); err == nil {
			return f, func() { f.Close(); os.Remove(own); os.Remove(base) }
		}
	}
	return nil, nil
}

// sealed copies a program to sealed memory.
func sealed(path string) (*os.File, error) {
	program, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	fd, err := unix.MemfdCreate("test", unix.MFD_ALLOW_SEALING|unix.MFD_CLOEXEC)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "test")
	if _, err := f.Write(program); err != nil {
		return nil, err
	}
	_, err = unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, unix.F_SEAL_SEAL|unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_WRITE)
	return f, err
}

// testKeeper is a keeper without an engine.
type testKeeper struct {
	*keeper.Client
	t      testing.TB
	tasks  *tasks
	rootfs string
	dir    string // the runtime directory
}

func newTestKeeper(t testing.TB) *testKeeper {
	t.Helper()
	dir, err := os.MkdirTemp("", "k") // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	rt, err := runtime.New(filepath.Join(dir, "containers"))
	if err != nil {
		t.Fatal(err)
	}
	l, err := listenKeeper(dir)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	k := &testKeeper{Client: keeper.NewClient(dir), t: t, tasks: newTasks(rt), rootfs: busybox(t), dir: dir}
	s := newServer(keeper.Config{RuntimeDir: dir, Version: "test"}, &supervisor{}, k.tasks, stop)
	served := make(chan error, 1)
	go func() { served <- s.serve(ctx, l) }()
	t.Cleanup(func() {
		k.tasks.stopAll()
		stop()
		<-served
	})
	return k
}

// busybox makes a root file system of the host's busybox.
func busybox(t testing.TB) string {
	t.Helper()
	program, err := os.ReadFile("/bin/busybox")
	if err != nil {
		t.Skip("needs /bin/busybox: apt-get install busybox-static")
	}
	root := t.TempDir()
	for _, dir := range []string{"bin", "proc", "dev", "sys", "tmp", "etc"} {
		if err := os.Mkdir(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(root, "bin/busybox"), program, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, applet := range []string{"sh", "true", "false", "echo", "cat", "sleep", "id", "ls", "dd", "yes", "head", "tty", "stty", "ps", "kill", "grep", "wc", "mount"} {
		if err := os.Symlink("busybox", filepath.Join(root, "bin", applet)); err != nil {
			t.Fatal(err)
		}
	}
	for dir := root; dir != "/tmp"; dir = filepath.Dir(dir) { // MkdirTemp makes 0700
		if err := os.Chmod(dir, 0o755); err != nil {
			break
		}
	}
	return root
}

// spec is a small container that runs a command.
func (k *testKeeper) spec(args ...string) *specs.Spec {
	caps := []string{"CAP_CHOWN", "CAP_KILL", "CAP_SETUID", "CAP_SETGID"}
	return &specs.Spec{
		Version: specs.Version,
		Root:    &specs.Root{Path: k.rootfs},
		Process: &specs.Process{
			Args: args, Env: []string{"PATH=/bin"}, Cwd: "/",
			Capabilities: &specs.LinuxCapabilities{Bounding: caps, Effective: caps, Permitted: caps},
		},
		Mounts: []specs.Mount{
			{Destination: "/proc", Type: "proc", Source: "proc"},
			{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "mode=755"}},
			{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"}},
		},
		Linux: &specs.Linux{Namespaces: []specs.LinuxNamespace{
			{Type: specs.MountNamespace},
			{Type: specs.PIDNamespace},
			{Type: specs.UTSNamespace},
			{Type: specs.IPCNamespace},
			{Type: specs.NetworkNamespace},
		}},
	}
}

func (k *testKeeper) ctx() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	k.t.Cleanup(cancel)
	return ctx
}

// exit waits for a process to end and forgets it.
func (k *testKeeper) exit(ref keeper.Ref) keeper.Task {
	k.t.Helper()
	var found keeper.Task
	done := errors.New("done")
	err := k.Watch(k.ctx(), func(task keeper.Task) error {
		if task.Ref == ref && task.Status == keeper.Exited {
			found = task
			return done
		}
		return nil
	})
	if !errors.Is(err, done) {
		k.t.Fatalf("waiting for %v: %v", ref, err)
	}
	if err := k.Forget(k.ctx(), ref); err != nil {
		k.t.Fatal(err)
	}
	return found
}

// pair is a connected pair of sockets: one for the keeper, one to test with.
func (k *testKeeper) pair() (*os.File, *os.File) {
	k.t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		k.t.Fatal(err)
	}
	for _, fd := range fds {
		if err := unix.SetNonblock(fd, true); err != nil {
			k.t.Fatal(err)
		}
	}
	mine, its := os.NewFile(uintptr(fds[0]), "client"), os.NewFile(uintptr(fds[1]), "conn")
	k.t.Cleanup(func() { mine.Close() })
	return mine, its
}

// attach attaches to a container, whether it runs or not.
func (k *testKeeper) attach(r keeper.AttachRequest) (conn *os.File, ended <-chan keeper.AttachResult) {
	k.t.Helper()
	mine, its := k.pair()
	defer its.Close()
	results := make(chan keeper.AttachResult, 1)
	if err := k.Attach(k.ctx(), r, its, func(res keeper.AttachResult, err error) {
		if err != nil {
			k.t.Errorf("attach: %v", err)
		}
		results <- res
	}); err != nil {
		k.t.Fatal(err)
	}
	return mine, results
}

// run runs a container to its end and returns its output.
func (k *testKeeper) run(r keeper.StartRequest) (output string, task keeper.Task) {
	k.t.Helper()
	conn, _ := k.attach(keeper.AttachRequest{Ref: keeper.Ref{Container: r.ID}, Stdout: true, Stderr: true})
	if _, err := k.Start(k.ctx(), r); err != nil {
		k.t.Fatal(err)
	}
	b, err := io.ReadAll(conn)
	if err != nil {
		k.t.Fatal(err)
	}
	return string(b), k.exit(keeper.Ref{Container: r.ID})
}

func closeWrite(t *testing.T, f *os.File) {
	t.Helper()
	raw, err := f.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if cerr := raw.Control(func(fd uintptr) { err = unix.Shutdown(int(fd), unix.SHUT_WR) }); cerr != nil || err != nil {
		t.Fatal(cerr, err)
	}
}

func terminal(s *specs.Spec) *specs.Spec {
	s.Process.Terminal = true
	return s
}
