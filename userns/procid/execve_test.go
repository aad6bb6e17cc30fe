package procid

import (
	"errors"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"
	"time"
)

// executeEnv makes the test program execute itself over and over.
const executeEnv = "PROCID_TEST_EXECUTE"

func init() {
	if os.Getenv(executeEnv) == "" {
		return
	}
	runtime.LockOSThread() // so that all other goroutines run on other threads
	failed := make(chan error)
	go func() { failed <- syscall.Exec("/proc/self/exe", os.Args, os.Environ()) }()
	panic(<-failed)
}

// While a thread other than the first calls execve, the first is a zombie: the
// process is not gone.
func TestOfWhileExecuting(t *testing.T) {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), executeEnv+"=1")
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait() //nolint:errcheck // it was killed
	defer cmd.Process.Kill()
	id, err := Of(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(300 * time.Millisecond); time.Now().Before(end); {
		p, err := Find(id)
		if err != nil {
			t.Fatalf("a process that executes a program was not found: %v", err)
		}
		p.Close()
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(time.Minute); ; {
		if _, err := Of(id.PID); errors.Is(err, os.ErrProcessDone) {
			break
		}
		if time.Now().After(end) {
			t.Fatal("a killed process is still there")
		}
	}
}
