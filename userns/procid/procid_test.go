package procid

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"
)

func TestParseStat(t *testing.T) {
	tests := []struct {
		name, stat string
		state      byte
		started    uint64
		bad        bool
	}{
		{name: "plain", stat: "12 (sh) S 1 12 12 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 1 0 777 0 0", state: 'S', started: 777},
		{name: "hostile name", stat: "12 (a) R 9 (b) Z 1 12 12 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 1 0 778 0 0", state: 'Z', started: 778},
		{name: "cut short", stat: "12 (sh) S 1 12", bad: true},
		{name: "empty", bad: true},
		{name: "no number", stat: "12 (sh) S 1 12 12 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 1 0 x 0 0", bad: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			state, started, err := parseStat([]byte(tt.stat))
			if (err != nil) != tt.bad {
				t.Fatalf("error %v", err)
			}
			if err == nil && (state != tt.state || started != tt.started) {
				t.Errorf("got %c %d, want %c %d", state, started, tt.state, tt.started)
			}
		})
	}
}

func TestProcess(t *testing.T) {
	cmd := exec.Command("sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Process.Kill() //nolint:errcheck // it has ended when the test passes
	id, err := Of(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Find(ID{PID: id.PID, StartTime: id.StartTime + 1}); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("a process with another start time was found: %v", err)
	}
	p, err := Find(id)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()

	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := p.Wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("waiting for a running process: %v", err)
	}
	if err := p.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := p.Wait(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := Of(id.PID); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("a dead process that nobody has waited for yet was found: %v", err)
	}
	_ = cmd.Wait()
	if err := p.Signal(syscall.SIGKILL); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("signal to a dead process: %v", err)
	}
}
