// Package procstat reads what the kernel says of processes in /proc/PID/stat.
//
// It must not decide what is to be done with a process.
package procstat

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// TicksPerSecond of the times in /proc: USER_HZ is the same on every
// architecture that Go supports.
const TicksPerSecond = 100

// Stat is the part of proc_pid_stat(5) that kelp has a use for. Times are in
// clock ticks.
type Stat struct {
	PID, PPID     int
	PGID, SID     int
	Comm          string // the program's name; any characters
	State         byte   // of the first thread
	TTY           uint64 // device number
	User, System  uint64 // time
	UserReaped    uint64 // time of the children that it has waited for
	SystemReaped  uint64
	Nice          int
	Threads       int
	StartTime     uint64 // since boot
	VirtualBytes  uint64
	ResidentPages uint64
}

// fields is how many of the file's fields are read.
const fields = 24

// Ended says that the process has ended and waits for its parent. One whose
// first thread has ended runs on in the others, if there are any; when one of
// those calls execve(2), it ends all others and takes over the pid and the
// start time of the first.
func (s Stat) Ended() bool { return s.firstEnded() && s.Threads == 1 }

func (s Stat) firstEnded() bool { return s.State == 'Z' || s.State == 'X' }

// Read reads the stat of the process that has the pid now. Where there is none
// the error is os.ErrNotExist.
func Read(pid int) (Stat, error) {
	for {
		s, err := readFile(fmt.Sprintf("/proc/%d/stat", pid))
		switch {
		case err != nil:
			return Stat{}, err
		case s.Threads == 0:
			// The kernel let go of the task as it was read: the process was reaped,
			// or another thread takes over. The next read tells.
		case s.firstEnded() && !s.Ended():
			return s.withRunning(), nil
		default:
			return s, nil
		}
	}
}

// withRunning is s with the state of a thread that has not ended.
func (s Stat) withRunning() Stat {
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", s.PID))
	if err != nil {
		return s
	}
	for _, t := range tasks {
		thread, err := readFile(fmt.Sprintf("/proc/%d/task/%s/stat", s.PID, t.Name()))
		if err == nil && !thread.firstEnded() {
			s.State = thread.State
			break
		}
	}
	return s
}

func readFile(path string) (Stat, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, unix.ESRCH) { // it went between open and read
		err = &os.PathError{Op: "read", Path: path, Err: os.ErrNotExist}
	}
	if err != nil {
		return Stat{}, err
	}
	s, err := Parse(b)
	if err != nil {
		return Stat{}, fmt.Errorf("cannot read %s: %w", path, err)
	}
	return s, nil
}

// Parse reads the contents of a stat file. The program's name, field 2, may
// hold any characters; nothing behind it holds a parenthesis.
func Parse(b []byte) (Stat, error) {
	begin, end := bytes.IndexByte(b, '('), bytes.LastIndexByte(b, ')')
	if begin < 1 || end < begin {
		return Stat{}, fmt.Errorf("%q has no program's name", b)
	}
	p := parser{fields: bytes.Fields(b[end+1:])}
	if len(p.fields) < fields-2 || len(p.fields[0]) != 1 {
		return Stat{}, fmt.Errorf("%q has too few fields", b)
	}
	s := Stat{
		Comm: string(b[begin+1 : end]), State: p.fields[0][0],
		PPID: p.int(4), PGID: p.int(5), SID: p.int(6), TTY: uint64(uint32(p.int(7))),
		User: p.uint(14), System: p.uint(15), UserReaped: p.uint(16), SystemReaped: p.uint(17),
		Nice: p.int(19), Threads: p.int(20), StartTime: p.uint(22), VirtualBytes: p.uint(23), ResidentPages: p.uint(24),
	}
	pid, err := strconv.Atoi(string(bytes.TrimSpace(b[:begin])))
	if s.PID = pid; errors.Join(err, p.err) != nil {
		return Stat{}, fmt.Errorf("%q: %w", b, errors.Join(err, p.err))
	}
	return s, nil
}

// parser reads fields by their numbers in proc_pid_stat(5); fields[0] is
// number 3.
type parser struct {
	fields [][]byte
	err    error
}

func (p *parser) int(field int) int {
	n, err := strconv.Atoi(string(p.fields[field-3]))
	p.err = errors.Join(p.err, err)
	return n
}

func (p *parser) uint(field int) uint64 {
	n, err := strconv.ParseUint(string(p.fields[field-3]), 10, 64)
	p.err = errors.Join(p.err, err)
	return n
}
