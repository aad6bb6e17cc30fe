package ps

import (
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kelp-engine/kelp/userns/procstat"
)

// system is what all processes have in common.
type system struct {
	root     string // /proc
	now      time.Time
	boot     time.Time
	memory   uint64 // KiB
	pageSize uint64
	users    map[uint32]string
}

func readSystem() (*system, error) {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return nil, err
	}
	var up unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &up); err != nil {
		return nil, err
	}
	now := time.Now()
	return &system{
		root:     "/proc",
		now:      now,
		boot:     now.Add(-time.Duration(up.Nano())),
		memory:   uint64(info.Totalram) * uint64(info.Unit) / 1024,
		pageSize: uint64(os.Getpagesize()),
		users:    map[uint32]string{},
	}, nil
}

// process is what /proc tells of one.
type process struct {
	sys       *system
	pid, ppid int
	pgid, sid int
	uid, gid  uint32
	user      string
	state     string
	tty       string
	nice      int
	threads   int
	comm      string
	args      string
	cpu       time.Duration
	started   time.Time
	vsz, rss  uint64 // KiB
}

// read returns false for a process that is gone.
func (s *system) read(pid int) (*process, bool) {
	dir := filepath.Join(s.root, strconv.Itoa(pid))
	b, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return nil, false
	}
	stat, err := procstat.Parse(b)
	if err != nil {
		return nil, false
	}
	p := &process{
		sys: s, pid: pid, ppid: stat.PPID, pgid: stat.PGID, sid: stat.SID,
		state: string(rune(stat.State)), tty: ttyName(stat.TTY), nice: stat.Nice, threads: stat.Threads, comm: stat.Comm,
		cpu:     time.Duration(stat.User+stat.System) * time.Second / procstat.TicksPerSecond,
		started: s.boot.Add(time.Duration(stat.StartTime) * time.Second / procstat.TicksPerSecond),
		vsz:     stat.VirtualBytes / 1024, rss: stat.ResidentPages * s.pageSize / 1024,
	}
	if p.sid == pid {
		p.state += "s"
	}

	var st unix.Stat_t
	if unix.Stat(dir, &st) != nil {
		return nil, false
	}
	p.uid, p.gid = st.Uid, st.Gid
	p.user = s.userName(p.uid)
	p.args = arguments(dir, p.comm)
	return p, true
}

// arguments is the command line, or the name of a process that has none.
func arguments(dir, comm string) string {
	b, err := os.ReadFile(filepath.Join(dir, "cmdline"))
	if err != nil || len(b) == 0 {
		return "[" + comm + "]"
	}
	return strings.ReplaceAll(strings.TrimRight(string(b), "\x00"), "\x00", " ")
}

// userName is the host's name of a user, as ps on the host would say.
func (s *system) userName(uid uint32) string {
	name, ok := s.users[uid]
	if !ok {
		name = strconv.FormatUint(uint64(uid), 10)
		if u, err := user.LookupId(name); err == nil {
			name = u.Username
		}
		s.users[uid] = name
	}
	return name
}

// ttyName names the terminal of a device number in /proc's form.
func ttyName(device uint64) string {
	major, minor := device>>8&0xfff, device&0xff|device>>12&0xfff00
	switch {
	case device == 0:
		return "?"
	case major >= 136 && major <= 143: // pseudo terminals
		return fmt.Sprintf("pts/%d", (major-136)<<8+minor)
	case major == 4 && minor < 64:
		return fmt.Sprintf("tty%d", minor)
	case major == 4:
		return fmt.Sprintf("ttyS%d", minor-64)
	default:
		return fmt.Sprintf("%d:%d", major, minor)
	}
}
