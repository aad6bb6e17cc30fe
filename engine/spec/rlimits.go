package spec

import (
	"strings"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/container"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/kelp-engine/kelp/engine/fault"
)

// limitNumbers are the resources of setrlimit(2) by Docker's names.
var limitNumbers = map[string]int{
	"core":       unix.RLIMIT_CORE,
	"cpu":        unix.RLIMIT_CPU,
	"data":       unix.RLIMIT_DATA,
	"fsize":      unix.RLIMIT_FSIZE,
	"locks":      unix.RLIMIT_LOCKS,
	"memlock":    unix.RLIMIT_MEMLOCK,
	"msgqueue":   unix.RLIMIT_MSGQUEUE,
	"nice":       unix.RLIMIT_NICE,
	"nofile":     unix.RLIMIT_NOFILE,
	"nproc":      unix.RLIMIT_NPROC,
	"rss":        unix.RLIMIT_RSS,
	"rtprio":     unix.RLIMIT_RTPRIO,
	"rttime":     unix.RLIMIT_RTTIME,
	"sigpending": unix.RLIMIT_SIGPENDING,
	"stack":      unix.RLIMIT_STACK,
}

// checkUlimits refuses unknown limits, and those above what the user may set.
func checkUlimits(list []*units.Ulimit) error {
	for _, u := range list {
		number, ok := limitNumbers[u.Name]
		if !ok {
			return fault.InvalidArgument("invalid ulimit type: %s", u.Name)
		}
		if u.Soft < -1 || u.Hard < -1 {
			return fault.InvalidArgument("invalid ulimit %s=%d:%d: -1 is no limit", u.Name, u.Soft, u.Hard)
		}
		if u.Hard != -1 && (u.Soft == -1 || u.Soft > u.Hard) {
			return fault.InvalidArgument("ulimit soft limit must be less than or equal to hard limit: %d > %d", u.Soft, u.Hard)
		}
		var have unix.Rlimit
		if err := unix.Getrlimit(number, &have); err != nil {
			return fault.Internal("cannot read the limit %s: %w", u.Name, err)
		}
		if uint64(u.Hard) > have.Max { // -1 is the largest there is: no limit
			return fault.InvalidArgument("cannot set the ulimit %s=%d:%d: your own hard limit is %d", u.Name, u.Soft, u.Hard, have.Max).
				WithHint("ask the administrator to raise it in /etc/security/limits.conf, or lower it here")
		}
	}
	return nil
}

func rlimits(list []*units.Ulimit) []specs.POSIXRlimit {
	var out []specs.POSIXRlimit
	for _, u := range list {
		out = append(out, specs.POSIXRlimit{
			Type: "RLIMIT_" + strings.ToUpper(u.Name),
			Soft: uint64(u.Soft),
			Hard: uint64(u.Hard),
		})
	}
	return out
}

// oomScoreAdj is the container's, or nil to leave kelp's: an ordinary user
// may raise it, not lower it.
func oomScoreAdj(hc *container.HostConfig, h Host) *int {
	if hc.OomScoreAdj == 0 || hc.OomScoreAdj < h.OOMScoreAdj {
		return nil
	}
	return &hc.OomScoreAdj
}
