package ps

import (
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestRows(t *testing.T) {
	for _, tt := range []struct {
		args    string
		titles  string
		wantErr bool
	}{
		{"", "UID PID PPID C STIME TTY TIME CMD", false},
		{"-ef", "UID PID PPID C STIME TTY TIME CMD", false},
		{"-e -f", "UID PID PPID C STIME TTY TIME CMD", false},
		{"aux", "USER PID %CPU %MEM VSZ RSS TTY STAT START TIME COMMAND", false},
		{"-A", "PID TTY TIME CMD", false},
		{"-eo pid,comm", "PID COMMAND", false},
		{"axo pid,args:WHAT", "PID WHAT", false},
		{"--format=pid", "PID", false},
		{"-o pid,comm=NAME", "PID NAME", false},
		{"-o pid -o etime,%cpu", "PID ELAPSED %CPU", false},
		{"-o", "", true},
		{"-o shoe", "", true},
		{"--forest", "", true},
		{"-p 1", "", true},
	} {
		t.Run(tt.args, func(t *testing.T) {
			f, err := Parse(strings.Fields(tt.args))
			if tt.wantErr {
				if err == nil {
					t.Error("it passed")
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(f.Titles(), " "); got != tt.titles {
				t.Errorf("titles %q, want %q", got, tt.titles)
			}
			rows, err := f.Rows([]int{os.Getpid(), 1 << 30})
			if err != nil || len(rows) != 1 {
				t.Fatalf("Rows = %v, %v: want this process and none that is not there", rows, err)
			}
			if !slices.Contains(rows[0], strconv.Itoa(os.Getpid())) || len(rows[0]) != len(f.Titles()) {
				t.Errorf("row %v", rows[0])
			}
		})
	}
}

func TestProcess(t *testing.T) {
	sys, err := readSystem()
	if err != nil {
		t.Fatal(err)
	}
	p, ok := sys.read(os.Getpid())
	if !ok {
		t.Fatal("this process is not there")
	}
	if p.ppid != os.Getppid() || p.uid != uint32(os.Getuid()) || p.rss == 0 || !strings.Contains(p.args, "ps.test") {
		t.Errorf("%+v", p)
	}
	if age := time.Since(p.started); age < 0 || age > time.Hour {
		t.Errorf("started %s ago", age)
	}
}

func TestTTYName(t *testing.T) {
	for device, want := range map[uint64]string{0: "?", 136<<8 | 3: "pts/3", 4<<8 | 1: "tty1", 4<<8 | 64: "ttyS0"} {
		if got := ttyName(device); got != want {
			t.Errorf("%#x is %s, want %s", device, got, want)
		}
	}
}
