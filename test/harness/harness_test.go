package harness_test

import (
	"context"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/kelp-engine/kelp/test/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }

// The kernel gives the name of a user namespace that has ended to the next
// one, such as that of another test's container: closing a kelp that was
// stopped must not end what runs there.
func TestCloseSparesStrangers(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	k, err := harness.New()
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{k.Start(ctx), k.Stop(ctx)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	var strangers []*exec.Cmd
	for range 50 {
		c := exec.CommandContext(ctx, "unshare", "-U", "sh", "-c", "echo; exec sleep 60")
		out, err := c.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		if _, err := out.Read(make([]byte, 1)); err != nil { // it is in its namespace
			t.Fatal(err)
		}
		strangers = append(strangers, c)
	}
	if err := k.Close(); err != nil {
		t.Error(err)
	}
	for _, c := range strangers {
		_ = c.Process.Signal(syscall.SIGTERM)
		_ = c.Wait()
		if s := c.ProcessState.Sys().(syscall.WaitStatus); s.Signal() != syscall.SIGTERM {
			t.Errorf("a stranger was ended by %v", s.Signal())
		}
	}
}
