// Package subid reads who owns which subordinate user and group ids:
// /etc/subuid and /etc/subgid (subuid(5)), or what getsubids(1) says where
// another service keeps them.
//
// It must not change them: that takes root.
package subid

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// Range is a run of ids that belongs to one user.
type Range struct {
	Owner string // a name or a number
	Start uint32
	Count uint32
}

func (r Range) String() string {
	return fmt.Sprintf("%d-%d", r.Start, r.end()-1)
}

// end is the id after the last.
func (r Range) end() uint64 { return uint64(r.Start) + uint64(r.Count) }

// Overlaps says whether the two ranges have an id in common.
func (r Range) Overlaps(o Range) bool {
	return uint64(r.Start) < o.end() && uint64(o.Start) < r.end()
}

// Contains says whether id is in the range.
func (r Range) Contains(id uint32) bool {
	return id >= r.Start && uint64(id) < r.end()
}

// Files that hold ranges.
const (
	UIDFile = "/etc/subuid"
	GIDFile = "/etc/subgid"
)

// ReadFile returns every range in one of the files, in their order. A missing
// file has none.
func ReadFile(path string) ([]Range, error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return parse(f, func(line string) []string { return strings.Split(line, ":") })
}

// parse reads a range a line, whose three fields are split by fields. Lines
// that are no range are passed over, as newuidmap does.
func parse(r io.Reader, fields func(line string) []string) (ranges []Range, err error) {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		f := fields(line)
		if len(f) != 3 || f[0] == "" {
			continue
		}
		start, err1 := strconv.ParseUint(f[1], 10, 32)
		count, err2 := strconv.ParseUint(f[2], 10, 32)
		if err1 != nil || err2 != nil || count == 0 || start+count > 1<<32 {
			continue
		}
		ranges = append(ranges, Range{Owner: f[0], Start: uint32(start), Count: uint32(count)})
	}
	return ranges, lines.Err()
}

// getsubidsTimeout bounds a question to a directory service.
const getsubidsTimeout = 10 * time.Second

// Getsubids asks getsubids(1) for the user's ranges, of groups with groups. A
// machine without that program is exec.ErrNotFound.
func Getsubids(ctx context.Context, user string, groups bool) ([]Range, error) {
	ctx, cancel := context.WithTimeout(ctx, getsubidsTimeout)
	defer cancel()
	args := []string{user}
	if groups {
		args = []string{"-g", user}
	}
	out, err := exec.CommandContext(ctx, "getsubids", args...).Output()
	if _, ok := errors.AsType[*exec.ExitError](err); ok && ctx.Err() == nil {
		return nil, nil // it ends with an error where there is no range
	}
	if err != nil {
		return nil, err
	}
	// A line is "0: user 100000 65536".
	return parse(strings.NewReader(string(out)), func(line string) []string {
		_, rest, _ := strings.Cut(line, ":")
		return strings.Fields(rest)
	})
}

// Of returns the ranges that belong to the user, by name or by number.
func Of(all []Range, user string, uid int) (own []Range) {
	for _, r := range all {
		if r.Owner == user || r.Owner == strconv.Itoa(uid) {
			own = append(own, r)
		}
	}
	return own
}

// Total is how many ids the ranges have.
func Total(ranges []Range) (n uint64) {
	for _, r := range ranges {
		n += uint64(r.Count)
	}
	return n
}
