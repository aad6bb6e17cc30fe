// Package footprint keeps a long-lived process small: starting a large program
// touches much of its code and heap that it does not need again.
//
// It must not slow a process that works: it is for one that has just started.
package footprint

import (
	"bufio"
	"io"
	"log/slog"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// TrimAfter gives back, once and after a while, the memory that the process
// needed for its start alone.
func TrimAfter(d time.Duration) {
	time.AfterFunc(d, func() {
		debug.FreeOSMemory()
		if err := unmapCode(); err != nil {
			slog.Debug("cannot give back the memory of the start", "error", err)
		}
	})
}

// unmapCode lets go of the program's pages that only the page cache has to
// keep; the few that are needed again are mapped again when they are.
func unmapCode() error {
	self, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return err
	}
	f, err := os.Open("/proc/self/smaps")
	if err != nil {
		return err
	}
	defer f.Close()
	regions, err := clean(f, self)
	if err != nil {
		return err
	}
	for _, r := range regions {
		if _, _, errno := unix.Syscall(unix.SYS_MADVISE, r.start, r.end-r.start, unix.MADV_DONTNEED); errno != 0 {
			return errno
		}
	}
	return nil
}

// region of the process's memory: from start to just before end.
type region struct{ start, end uintptr }

// clean lists the regions in smaps (proc(5)) that hold the file at path,
// unchanged, and that nobody can change. Others would lose what was written to
// them: relocated tables are read-only as well.
func clean(smaps io.Reader, path string) (regions []region, err error) {
	var now region
	candidate := false
	flush := func() {
		if candidate {
			regions = append(regions, now)
		}
		candidate = false
	}
	lines := bufio.NewScanner(smaps)
	for lines.Scan() {
		f := strings.Fields(lines.Text())
		if len(f) == 0 {
			continue
		}
		if name, ok := strings.CutSuffix(f[0], ":"); ok {
			// What was written to is a copy, which belongs to no file. (Dirty
			// pages are no sign: those of a file just made are dirty, too.)
			if name == "Anonymous" && len(f) > 1 && f[1] != "0" {
				candidate = false
			}
			continue
		}
		flush()
		candidate = len(f) == 6 && f[5] == path && !strings.Contains(f[1], "w") && now.parse(f[0])
	}
	flush()
	return regions, lines.Err()
}

// parse reads a range of addresses.
func (r *region) parse(s string) bool {
	from, to, _ := strings.Cut(s, "-")
	start, err1 := strconv.ParseUint(from, 16, 64)
	end, err2 := strconv.ParseUint(to, 16, 64)
	r.start, r.end = uintptr(start), uintptr(end)
	return err1 == nil && err2 == nil && start < end
}
