package stdio

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Files are the two sides of a process's standard streams.
type Files struct {
	// Process's side, which it inherits. With a terminal only Console is set:
	// a socket over which the terminal's master comes.
	Stdin, Stdout, Stderr, Console *os.File
	// The keeper's side. Input is nil when the process reads nothing.
	Input, Output, Errors, ConsolePeer *os.File
}

// Open makes the files of a process.
func Open(tty, stdin bool) (f *Files, err error) {
	f = &Files{}
	defer func() {
		if err != nil {
			f.CloseAll()
		}
	}()
	if tty {
		pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return f, fmt.Errorf("cannot make a socket for a terminal: %w", err)
		}
		f.Console, f.ConsolePeer = os.NewFile(uintptr(pair[0]), "console"), os.NewFile(uintptr(pair[1]), "console-peer")
		return f, nil
	}
	if stdin {
		f.Stdin, f.Input, err = pipe()
	} else {
		f.Stdin, err = os.Open(os.DevNull)
	}
	if err != nil {
		return f, err
	}
	if f.Output, f.Stdout, err = pipe(); err != nil {
		return f, err
	}
	f.Errors, f.Stderr, err = pipe()
	return f, err
}

func pipe() (r, w *os.File, err error) {
	r, w, err = os.Pipe()
	if err != nil {
		err = fmt.Errorf("cannot make a pipe: %w", err)
	}
	return r, w, err
}

// CloseProcess closes the process's side, once it has inherited it.
func (f *Files) CloseProcess() { closeFiles(f.Stdin, f.Stdout, f.Stderr, f.Console) }

// CloseAll closes both sides, when there is no process.
func (f *Files) CloseAll() {
	f.CloseProcess()
	closeFiles(f.Input, f.Output, f.Errors, f.ConsolePeer)
}

func closeFiles(files ...*os.File) {
	for _, f := range files {
		if f != nil {
			f.Close()
		}
	}
}
