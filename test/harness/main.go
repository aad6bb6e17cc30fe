// Package harness runs kelp for tests as a user would run it: as an ordinary
// user, with a home, a runtime directory and a socket of its own, cleaned up
// to the last process and mount.
//
// It must not reach into kelp's packages: tests see what users see.
package harness

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/kelp-engine/kelp/test/apidef"
)

// Environment of a test binary that Main has started as the test user.
const (
	kelpEnv = "KELP_TEST_BIN"  // the kelp binary to test
	baseEnv = "KELP_TEST_BASE" // the directory for everything
)

// Main runs the tests of a package as an ordinary user, and is what TestMain
// calls. When root runs `go test`, the test binary is executed again as the
// user $KELP_TEST_USER (default kelptest, made by hack/setup-test-user).
// Each of more puts something else into the directory of programs before.
func Main(m *testing.M, more ...func(bin string) error) {
	code, err := run(m, more)
	if err != nil {
		fmt.Fprintln(os.Stderr, "cannot run the tests:", err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M, more []func(bin string) error) (int, error) {
	if os.Getenv(baseEnv) != "" && os.Getuid() != 0 {
		return m.Run(), nil
	}
	base, err := makeBase()
	if err != nil {
		return 1, err
	}
	defer removeAll(base)
	if err := prepare(base, more); err != nil {
		return 1, err
	}
	if os.Getuid() == 0 {
		return runAsUser(base)
	}
	os.Setenv("PATH", filepath.Join(base, "bin")+":"+os.Getenv("PATH"))
	os.Setenv(baseEnv, base)
	os.Setenv(kelpEnv, filepath.Join(base, "bin", "kelp"))
	return m.Run(), nil
}

// prepare puts what the tests execute where every user can read it. A docker
// client that is no part of this machine is kelp's own.
func prepare(base string, more []func(bin string) error) error {
	root, err := repositoryRoot()
	if err != nil {
		return err
	}
	built := filepath.Join(root, "bin", "kelp")
	if _, err := os.Stat(built); err != nil {
		return fmt.Errorf("%w: run 'make' first", err)
	}
	bin := filepath.Join(base, "bin")
	if err := os.Mkdir(bin, 0o755); err != nil {
		return err
	}
	if err := copyFile(built, filepath.Join(bin, "kelp"), 0o755); err != nil {
		return err
	}
	for _, add := range more {
		if err := add(bin); err != nil {
			return err
		}
	}
	if err := copyDefinitions(filepath.Join(base, "api")); err != nil {
		return err
	}
	peers, err := filepath.Glob(filepath.Join(root, "bin", "peers", "*")) // what benchmarks compare with
	if err != nil {
		return err
	}
	for _, p := range peers {
		if err := copyFile(p, filepath.Join(bin, filepath.Base(p)), 0o755); err != nil {
			return err
		}
	}
	if err := linkClients(root, base); err != nil {
		return err
	}
	return addDocker(base, bin)
}

// Program has Main build a Go package as a program that runs anywhere.
func Program(name, pkg string) func(bin string) error {
	return func(bin string) error {
		cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-o", filepath.Join(bin, name), pkg)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("cannot build %s: %w: %s", name, err, out)
		}
		return nil
	}
}

// ProgramPath is where a program is that Main has built.
func ProgramPath(name string) string { return filepath.Join(filepath.Dir(Binary()), name) }

// copyDefinitions puts the API's definitions where every user can read them.
func copyDefinitions(dir string) error {
	from, err := apidef.Dir()
	if err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	files, err := filepath.Glob(filepath.Join(from, "v1.*.yaml"))
	if err != nil {
		return err
	}
	for _, f := range files {
		if err := copyFile(f, filepath.Join(dir, filepath.Base(f)), 0o644); err != nil {
			return err
		}
	}
	return nil
}

func repositoryRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for ; dir != "/"; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
	}
	return "", errors.New("the tests do not run in kelp's repository")
}

// runAsUser executes this test binary again as the test user, in a copy of the
// package's directory, and returns its exit code.
func runAsUser(base string) (int, error) {
	name := os.Getenv("KELP_TEST_USER")
	if name == "" {
		name = "kelptest"
	}
	u, err := user.Lookup(name)
	if err != nil {
		return 1, fmt.Errorf("%w: run hack/setup-test-user", err)
	}
	uid, _ := strconv.Atoi(u.Uid)
	gid, _ := strconv.Atoi(u.Gid)
	dir, self := filepath.Join(base, "package"), filepath.Join(base, "bin", "test")
	if err := os.CopyFS(dir, os.DirFS(".")); err != nil {
		return 1, err
	}
	if err := copyFile("/proc/self/exe", self, 0o755); err != nil {
		return 1, err
	}
	if err := chownAll(base, uid, gid); err != nil {
		return 1, err
	}
	if err := makeShared(base); err != nil {
		return 1, err
	}
	cmd := exec.Command(self, childArgs(os.Args[1:])...)
	cmd.Dir = dir
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(childEnv(os.Environ()), "HOME="+u.HomeDir, "USER="+name, "LOGNAME="+name,
		"PATH="+filepath.Join(base, "bin")+":"+os.Getenv("PATH"), baseEnv+"="+base, kelpEnv+"="+filepath.Join(base, "bin", "kelp"))
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid), Groups: []uint32{uint32(gid), sharedGroup}},
		Pdeathsig:  unix.SIGKILL,
	}
	if group, err := delegatedCgroup(name, uid, gid); err == nil {
		defer removeCgroup(group)
		enter(cmd, group)
	}
	code, err := wait(cmd)
	if err == nil && slices.Contains(os.Args, "-update") {
		err = copyBack(filepath.Join(dir, "testdata"), "testdata")
	}
	return code, err
}

// copyBack writes the files of a folder that a test has updated.
func copyBack(from, to string) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, name)
		return errors.Join(os.MkdirAll(filepath.Dir(target), 0o755), os.WriteFile(target, b, 0o644))
	})
}

// wait runs cmd, passes signals on to it and returns its exit code.
func wait(cmd *exec.Cmd) (int, error) {
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, unix.SIGINT, unix.SIGTERM, unix.SIGQUIT)
	defer signal.Stop(signals)
	if err := cmd.Start(); err != nil {
		return 1, err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for {
		select {
		case s := <-signals:
			_ = cmd.Process.Signal(s)
		case err := <-ended:
			if exit, ok := errors.AsType[*exec.ExitError](err); ok {
				return max(exit.ExitCode(), 1), nil
			}
			return 0, err
		}
	}
}

// childArgs leaves out the flags that name files of root.
func childArgs(args []string) []string {
	return slices.DeleteFunc(slices.Clone(args), func(a string) bool {
		a = strings.TrimLeft(a, "-")
		return strings.HasPrefix(a, "test.testlogfile=") || strings.HasPrefix(a, "test.gocoverdir=")
	})
}

func childEnv(env []string) []string {
	return slices.DeleteFunc(env, func(e string) bool {
		name, _, _ := strings.Cut(e, "=")
		return strings.HasPrefix(name, "XDG_") || strings.HasPrefix(name, "DOCKER_") ||
			slices.Contains([]string{"HOME", "USER", "LOGNAME", "PATH", "MAIL", "GOCOVERDIR", "TMPDIR"}, name)
	})
}
