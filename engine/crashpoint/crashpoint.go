// Package crashpoint lets tests kill a process at a named place in the code,
// as a power cut or a SIGKILL would.
//
// Name a point after the operation and the step it lies behind, and put one
// between any two steps that must not be torn apart unnoticed:
//
//	crashpoint.Hit("container.start.saved-intent")
//
// test/crash finds every point in the source and tries each one: a new point
// must be reached by one of its operations.
package crashpoint

import (
	"os"
	"path/filepath"
	"syscall"
)

// DirEnv names the environment variable with the directory that arms points.
const DirEnv = "KELP_CRASHPOINTS"

var dir = os.Getenv(DirEnv)

// Hit ends this process at once if the point is armed, and disarms it. A
// point is armed by a file of its name in the directory $KELP_CRASHPOINTS.
// Without that variable Hit does nothing.
func Hit(name string) {
	if dir == "" || os.Remove(filepath.Join(dir, name)) != nil {
		return
	}
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {} // the signal is on its way
}
