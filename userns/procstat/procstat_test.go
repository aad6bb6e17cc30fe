package procstat

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// endFirstEnv makes the test program end its first thread and live on.
const endFirstEnv = "PROCSTAT_TEST_END_FIRST"

func init() {
	if os.Getenv(endFirstEnv) != "" {
		runtime.LockOSThread()
		go time.Sleep(time.Hour)
		unix.RawSyscall(unix.SYS_EXIT, 0, 0, 0)
	}
}

func TestReadWithoutFirstThread(t *testing.T) {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), endFirstEnv+"=1")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait() //nolint:errcheck // it was killed
	defer cmd.Process.Kill()
	for end := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		first, err := readFile(fmt.Sprintf("/proc/%d/stat", cmd.Process.Pid))
		if err != nil || time.Now().After(end) {
			t.Fatalf("the first thread did not end: %+v, %v", first, err)
		}
		if first.firstEnded() {
			break
		}
	}
	if s, err := Read(cmd.Process.Pid); err != nil || s.Ended() || s.firstEnded() {
		t.Errorf("of a process whose first thread has ended: %+v, %v", s, err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		s, err := Read(cmd.Process.Pid)
		if err != nil || time.Now().After(end) {
			t.Fatalf("of a killed process: %+v, %v", s, err)
		}
		if s.Ended() {
			break
		}
	}
}

func TestParse(t *testing.T) {
	const rest = " S 1 2 3 34816 -1 4194304 100 200 0 0 11 22 33 44 20 -5 5 0 777 1000000 1234 18446744073709551615\n"
	for _, comm := range []string{"sh", "", "a) R 9 9 (b", "with space", "new\nline"} {
		want := Stat{
			PID: 42, PPID: 1, PGID: 2, SID: 3, Comm: comm, State: 'S', TTY: 34816, User: 11, System: 22, UserReaped: 33, SystemReaped: 44,
			Nice: -5, Threads: 5, StartTime: 777, VirtualBytes: 1000000, ResidentPages: 1234,
		}
		if s, err := Parse([]byte("42 (" + comm + ")" + rest)); err != nil || s != want {
			t.Errorf("%q: got %+v, %v", comm, s, err)
		}
	}
	for _, bad := range []string{
		"", "42", "42 (sh)", "42 (sh) S 1 2", "x (sh)" + rest, ")(", "42 (sh) SS" + rest,
		"42 (sh) S x 2 3 0 -1 4194304 100 200 0 0 11 22 33 44 20 0 5 0 777 1000000 1234",
		"42 (sh) S 1 2 3 0 -1 4194304 100 200 0 0 11 22 33 44 20 0 5 0 -777 1000000 1234",
	} {
		if s, err := Parse([]byte(bad)); err == nil {
			t.Errorf("%q is read as %+v", bad, s)
		}
	}
}

func TestRead(t *testing.T) {
	if s, err := Read(os.Getpid()); err != nil || s.PID != os.Getpid() || s.PPID != os.Getppid() || s.Ended() {
		t.Errorf("of this process: %+v, %v", s, err)
	}
	if _, err := Read(1 << 30); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("of no process: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("42 (sh) S 1 2 3 0 -1 4194304 100 200 0 0 11 22 33 44 20 0 5 0 777 1000000 1234 0\n"))
	f.Fuzz(func(_ *testing.T, b []byte) { _, _ = Parse(b) })
}
