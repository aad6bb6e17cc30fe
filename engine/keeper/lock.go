package keeper

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kelp-engine/kelp/engine/fault"
	"github.com/kelp-engine/kelp/userns/procid"
	"github.com/kelp-engine/kelp/userns/reserve"
)

// lockName is the file in the data root whose lock the keeper holds, and in
// which it says who it is.
const lockName = "lock"

// lockPatience is how long a keeper waits for one that is ending.
const lockPatience = 5 * time.Second

// Holder is a keeper as the lock file of its data root describes it: it is
// found there when its runtime directory is another one, or gone.
type Holder struct {
	procid.ID
	Host       string `json:"host"`
	Boot       string `json:"boot"` // the kernel's boot id: pids mean nothing elsewhere
	RuntimeDir string `json:"runtime_dir"`
	Socket     string `json:"socket"`
}

// LockData takes the lock that makes the calling process the only keeper on
// the data root; the kernel gives it back when the process ends.
func LockData(dataRoot, runtimeDir, socket string) (*os.File, error) {
	if err := os.MkdirAll(dataRoot, 0o700); err != nil {
		return nil, dataError(dataRoot, err)
	}
	if err := checkOwner(dataRoot); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(dataRoot, lockName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, dataError(dataRoot, err)
	}
	if err := lockPatiently(f); err != nil {
		f.Close()
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("cannot lock the data root %s: %w", dataRoot, err)
		}
		return nil, inUse(dataRoot)
	}
	reserve.In(dataRoot).Room() // what fails for want of it says so
	if err := writeHolder(f, Holder{RuntimeDir: runtimeDir, Socket: socket}); err != nil {
		f.Close()
		return nil, dataError(dataRoot, err)
	}
	return f, nil
}

// checkOwner refuses a data root that others could write to: what they put
// there would run as the user.
func checkOwner(dataRoot string) error {
	var st unix.Stat_t
	if err := unix.Stat(dataRoot, &st); err != nil {
		return dataError(dataRoot, err)
	}
	switch {
	case int(st.Uid) != os.Getuid():
		return fault.PermissionDenied("the data root %s does not belong to you", dataRoot).
			WithHint("choose a directory of your own with --data-root")
	case st.Mode&0o022 != 0:
		return fault.PermissionDenied("other users may write to the data root %s (mode %#o)", dataRoot, st.Mode&0o7777).
			WithHint("run: chmod go-w %s", dataRoot)
	}
	return nil
}

func lockPatiently(f *os.File) error {
	for deadline := time.Now().Add(lockPatience); ; time.Sleep(20 * time.Millisecond) {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, unix.EWOULDBLOCK) || time.Now().After(deadline) {
			return err
		}
	}
}

func writeHolder(f *os.File, h Holder) (err error) {
	if h.ID, err = procid.Of(os.Getpid()); err != nil {
		return err
	}
	if h.Host, err = os.Hostname(); err != nil {
		return err
	}
	h.Boot = bootID()
	b, err := json.Marshal(h)
	if err != nil {
		return err
	}
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err = f.WriteAt(append(b, '\n'), 0)
	return err
}

// FindHolder returns the keeper that runs on the data root, on this machine.
// None is errdefs.ErrNotFound.
func FindHolder(dataRoot string) (Holder, error) {
	h, err := readHolder(dataRoot)
	if err == nil && h.Boot == bootID() {
		if now, err := procid.Of(h.PID); err == nil && now == h.ID {
			return h, nil
		}
	}
	return Holder{}, fault.NotFound("no kelp runs on the data root %s", dataRoot)
}

func readHolder(dataRoot string) (h Holder, err error) {
	b, err := os.ReadFile(filepath.Join(dataRoot, lockName))
	if err != nil {
		return h, err
	}
	return h, json.Unmarshal(b, &h)
}

func inUse(dataRoot string) error {
	h, err := readHolder(dataRoot)
	switch {
	case err != nil:
		return fault.Conflict("the data root %s is in use by another kelp", dataRoot).
			WithHint("stop that one, or choose another with --data-root")
	case h.Boot != bootID():
		return fault.Conflict("the data root %s is in use by the kelp of host %s", dataRoot, h.Host).
			WithHint("run 'kelp stop' there, or choose a data root for this host with --data-root")
	}
	return fault.Conflict("the data root %s is in use by another kelp (keeper pid %d)", dataRoot, h.PID).
		WithHint("stop it with 'kelp stop', or choose another with --data-root")
}

// dataError gives a remedy to what commonly keeps kelp from writing to a data
// root.
func dataError(dataRoot string, err error) error {
	e := fault.Unavailable("cannot use the data root %s: %w", dataRoot, err)
	switch {
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return e.WithHint("free some space there, or choose another disk with --data-root")
	case errors.Is(err, unix.EROFS), errors.Is(err, os.ErrPermission), errors.Is(err, unix.ENOTDIR):
		return e.WithHint("choose a directory that you can write to with --data-root")
	}
	return e
}

func bootID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}
