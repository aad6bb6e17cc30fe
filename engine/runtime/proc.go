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
	pid       int
	state     byte
	ppid      int
	startTime uint64 // clock ticks since boot
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
	var s stat
	end := bytes.LastIndexByte(b, ')')
	if end < 0 {
		return s, fmt.Errorf("cannot read a process's stat: %q", b)
	}
	if _, err := fmt.Sscan(string(b[:max(bytes.IndexByte(b, ' '), 0)]), &s.pid); err != nil {
		return s, fmt.Errorf("cannot read a process's stat: %q", b)
	}
	fields := bytes.Fields(b[end+1:])
	if len(fields) < 20 {
		return s, fmt.Errorf("cannot read a process's stat: %q", b)
	}
	s.state = fields[0][0]
	var err error
	if s.ppid, err = strconv.Atoi(string(fields[1])); err != nil {
		return s, err
	}
	s.startTime, err = strconv.ParseUint(string(fields[19]), 10, 64)
	return s, err
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
