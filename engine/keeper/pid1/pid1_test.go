package pid1

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestMain is the program when it is executed by its name.
func TestMain(m *testing.M) {
	if Is(os.Args) {
		os.Exit(Run(os.Args))
	}
	os.Exit(m.Run())
}

// command runs the program in front of a shell script.
func command(t *testing.T, script string) (*exec.Cmd, *bytes.Buffer) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), Name)
	if err := os.Symlink(self, link); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	cmd := exec.Command(link, "--", "sh", "-c", script)
	cmd.Stdout, cmd.Stderr = &out, &out
	return cmd, &out
}

func TestExitCodes(t *testing.T) {
	for script, want := range map[string]int{
		"exit 0":                   0,
		"exit 7":                   7,
		"kill -9 $$":               128 + 9,
		"(sleep 0.01 &) ; exit 3":  3,
		"exec /nosuch/program":     127,
		"true & true & wait; true": 0,
	} {
		t.Run(script, func(t *testing.T) {
			cmd, out := command(t, script)
			_ = cmd.Run()
			if got := cmd.ProcessState.ExitCode(); got != want {
				t.Errorf("exit code %d, want %d: %s", got, want, out)
			}
		})
	}
}

func TestACommandThatIsNotThere(t *testing.T) {
	cmd, out := command(t, "")
	cmd.Args = []string{cmd.Args[0], "--", "nosuchcommand"}
	_ = cmd.Run()
	if got := cmd.ProcessState.ExitCode(); got != notFound || !strings.Contains(out.String(), "nosuchcommand") {
		t.Errorf("exit code %d: %s", got, out)
	}
}

func TestSignalsArePassedOn(t *testing.T) {
	cmd, out := command(t, `trap 'echo got; exit 5' TERM; echo ready; while :; do sleep 0.01; done`)
	pipe, err := os.CreateTemp(t.TempDir(), "out")
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout = pipe
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for range 500 {
		if b, _ := os.ReadFile(pipe.Name()); strings.Contains(string(b), "ready") {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	b, _ := os.ReadFile(pipe.Name())
	if got := cmd.ProcessState.ExitCode(); got != 5 || !strings.Contains(string(b), "got") {
		t.Errorf("exit code %d, output %q %s", got, b, out)
	}
}
