package nstest

import (
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// settingsFD is the tests' end of a socket to the owner of the "host", toHost
// the same as a file.
const settingsFD = 3

var toHost *os.File

// setting is a file below /proc/sys and what to write into it.
type setting struct{ File, Value string }

// SetHost changes a kernel setting of the "host", for instance
// "net/ipv4/ip_forward", until the test has ended.
func SetHost(t testing.TB, file, value string) {
	t.Helper()
	before, err := os.ReadFile("/proc/sys/" + file)
	if err == nil {
		err = askHost(setting{file, value})
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := askHost(setting{file, strings.TrimSpace(string(before))}); err != nil {
			t.Error(err)
		}
	})
}

func askHost(s setting) error {
	if err := json.NewEncoder(toHost).Encode(s); err != nil {
		return err
	}
	var failed string
	if err := json.NewDecoder(toHost).Decode(&failed); err != nil || failed == "" {
		return err
	}
	return errors.New(failed)
}

// serveSettings does what SetHost asks for, as the owner of the "host". It
// returns the other end of toHost.
func serveSettings() (*os.File, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socketpair", err)
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "settings"), os.NewFile(uintptr(pair[1]), "settings")
	go func() {
		in, out := json.NewDecoder(ours), json.NewEncoder(ours)
		for {
			var s setting
			if in.Decode(&s) != nil {
				return
			}
			var failed string
			if err := os.WriteFile("/proc/sys/"+s.File, []byte(s.Value), 0o644); err != nil {
				failed = err.Error()
			}
			if out.Encode(failed) != nil {
				return
			}
		}
	}()
	return theirs, nil
}
