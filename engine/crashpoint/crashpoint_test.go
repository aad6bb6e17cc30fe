package crashpoint

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// TestMain plays the process that reaches two points.
func TestMain(m *testing.M) {
	if os.Getenv(DirEnv) != "" {
		Hit("first")
		Hit("second")
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func TestHit(t *testing.T) {
	arms := t.TempDir()
	reach := func() error {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), DirEnv+"="+arms)
		return cmd.Run()
	}
	if err := reach(); err != nil {
		t.Fatalf("nothing is armed, yet: %v", err)
	}
	armed := filepath.Join(arms, "second")
	if err := os.WriteFile(armed, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	exit, ok := errors.AsType[*exec.ExitError](reach())
	if !ok || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Errorf("the armed point ended the process with %v, want SIGKILL", exit)
	}
	if _, err := os.Stat(armed); !errors.Is(err, os.ErrNotExist) {
		t.Error("the point is still armed")
	}
	if err := reach(); err != nil {
		t.Errorf("the point went off twice: %v", err)
	}
}
