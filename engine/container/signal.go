package container

import (
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/kelp-engine/kelp/engine/fault"
)

const (
	sigKill    = int(unix.SIGKILL)
	sigTerm    = int(unix.SIGTERM)
	maxSignal  = 64
	firstRT    = 34 // of glibc: the kernel's first two belong to threads
	lastRTName = "RTMAX"
)

// parseSignal reads a signal's number, or its name with or without "SIG".
func parseSignal(text string) (int, error) {
	if n, err := strconv.Atoi(text); err == nil {
		if n <= 0 || n > maxSignal {
			return 0, fault.InvalidArgument("invalid signal: %s", text)
		}
		return n, nil
	}
	name := strings.TrimPrefix(strings.ToUpper(text), "SIG")
	if s := unix.SignalNum("SIG" + name); s != 0 {
		return int(s), nil
	}
	if n, ok := realTime(name); ok {
		return n, nil
	}
	return 0, fault.InvalidArgument("invalid signal: %s", text)
}

// realTime reads RTMIN, RTMIN+n, RTMAX and RTMAX-n.
func realTime(name string) (int, bool) {
	base, offset := firstRT, strings.TrimPrefix(name, "RTMIN")
	if strings.HasPrefix(name, lastRTName) {
		base, offset = maxSignal, strings.TrimPrefix(name, lastRTName)
	} else if offset == name {
		return 0, false
	}
	if offset == "" {
		return base, true
	}
	n, err := strconv.Atoi(offset)
	if err != nil || base == firstRT && offset[0] != '+' || base == maxSignal && offset[0] != '-' {
		return 0, false
	}
	n += base
	return n, n >= firstRT && n <= maxSignal
}

// stopSignal is the signal that asks the container to end.
func (r *Record) stopSignal() int {
	if n, err := parseSignal(r.Config.StopSignal); err == nil {
		return n
	}
	return sigTerm
}
