package runtime

import (
	"bytes"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/kelp-engine/kelp/engine/fault"
)

// StartTime returns when a process started, in clock ticks since boot.
func StartTime(pid int) (uint64, error) {
	s, err := readStat(pid)
	return s.startTime, err
}

// stat is what kelp reads of /proc/PID/stat.
type stat struct {
	pid, ppid     int
	state         byte
	userTicks     uint64 // with those of children it has waited for
	kernelTicks   uint64
	threads       uint64
	startTime     uint64 // clock ticks since boot
	residentPages uint64
}

func readStat(pid int) (stat, error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return stat{}, err
	}
	return parseStat(b)
}

// parseStat reads proc_pid_stat(5). The command, field 2, may hold any
// character; nothing after it holds a parenthesis.
func parseStat(b []byte) (stat, error) {
	bad := fmt.Errorf("cannot read a process's stat: %q", b)
	begin, end := bytes.IndexByte(b, '('), bytes.LastIndexByte(b, ')')
	if begin < 1 || end < begin {
		return stat{}, bad
	}
	fields := bytes.Fields(b[end+1:]) // from field 3 on
	if len(fields) < 22 || len(fields[0]) != 1 {
		return stat{}, bad
	}
	ok := true
	number := func(f []byte) uint64 {
		n, err := strconv.ParseUint(string(bytes.TrimSpace(f)), 10, 64)
		ok = ok && err == nil
		return n
	}
	field := func(n int) uint64 { return number(fields[n-3]) }
	s := stat{
		pid: int(number(b[:begin])), state: fields[0][0], ppid: int(field(4)),
		userTicks: field(14) + field(16), kernelTicks: field(15) + field(17),
		threads: field(20), startTime: field(22), residentPages: field(24),
	}
	if !ok {
		return stat{}, bad
	}
	return s, nil
}

// ReceiveTerminal receives the master of a process's terminal over the other
// end of its console socket.
func ReceiveTerminal(socket *os.File) (*os.File, error) {
	buf, oob := make([]byte, 4096), make([]byte, unix.CmsgSpace(4))
	_, oobn, _, _, err := unix.Recvmsg(int(socket.Fd()), buf, oob, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("cannot receive a terminal: %w", err)
	}
	messages, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil || len(messages) != 1 {
		return nil, fault.Internal("the container sent no terminal")
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return nil, fault.Internal("the container sent no terminal")
	}
	if err := unix.SetNonblock(fds[0], true); err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fds[0]), "terminal"), nil
}
