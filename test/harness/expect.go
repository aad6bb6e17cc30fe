package harness

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/creack/pty"
	"github.com/rogpeppe/go-internal/testscript"
)

// terminal is a command that runs on a pseudo terminal.
type terminal struct {
	file *os.File

	mu   sync.Mutex
	all  []byte // everything it printed
	seen int    // how much of it expect steps have matched
	done bool
}

// expect runs a command on a terminal of 24 rows and 80 columns and works
// through FILE, one step a line, comments after '#':
//
//	expect REGEX     waits until new output matches
//	send TEXT        types TEXT, with \r, \x04 and the like as in Go strings
//	resize ROWS COLS resizes the terminal
//	exit CODE        waits for the command's end
func expect(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: expect FILE COMMAND ARGS…")
	}
	s := of(ts)
	cmd := s.kelp.Command(s.ctx, args[1], args[2:]...)
	cmd.Dir = ts.MkAbs(".")
	cmd.Env = append(cmd.Env, "TERM=xterm")
	f, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 24, Cols: 80})
	ts.Check(err)
	t := &terminal{file: f}
	read := make(chan struct{})
	go func() { t.read(); close(read) }()
	defer func() {
		_ = cmd.Process.Kill()
		f.Close()
		<-read
		_, _ = ts.Stdout().Write(t.all)
	}()
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for n, line := range strings.Split(ts.ReadFile(args[0]), "\n") {
		if err := t.step(line, ended); err != nil {
			ts.Fatalf("%s:%d: %s: %v", args[0], n+1, line, err)
		}
	}
}

func (t *terminal) read() {
	buf := make([]byte, 4096)
	for {
		n, err := t.file.Read(buf)
		t.mu.Lock()
		t.all = append(t.all, buf[:n]...)
		t.done = err != nil
		t.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func (t *terminal) step(line string, ended <-chan error) error {
	line, _, _ = strings.Cut(strings.TrimSpace(line), " #")
	verb, rest, _ := strings.Cut(line, " ")
	switch verb {
	case "", "#":
		return nil
	case "expect":
		return t.wait(rest)
	case "send":
		text, err := strconv.Unquote(`"` + rest + `"`)
		if err != nil {
			return err
		}
		_, err = t.file.WriteString(text)
		return err
	case "resize":
		var size pty.Winsize
		if _, err := fmt.Sscan(rest, &size.Rows, &size.Cols); err != nil {
			return err
		}
		return pty.Setsize(t.file, &size)
	case "exit":
		return exit(rest, ended)
	}
	return errors.New("unknown step")
}

func (t *terminal) wait(pattern string) error {
	re, err := regexp.Compile(pattern)
	if err != nil {
		return err
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		t.mu.Lock()
		fresh, done := t.all[t.seen:], t.done
		at := re.FindIndex(fresh)
		if at != nil {
			t.seen += at[1]
		}
		t.mu.Unlock()
		switch {
		case at != nil:
			return nil
		case done || time.Now().After(deadline):
			return fmt.Errorf("not found in %q", fresh)
		}
	}
}

func exit(want string, ended <-chan error) error {
	code, err := strconv.Atoi(want)
	if err != nil {
		return err
	}
	select {
	case err := <-ended:
		got := 0
		if e, ok := errors.AsType[*exec.ExitError](err); ok {
			got = e.ExitCode()
		} else if err != nil {
			return err
		}
		if got != code {
			return fmt.Errorf("it exited with %d", got)
		}
		return nil
	case <-time.After(patience):
		return errors.New("it still runs")
	}
}
