package rundir

import (
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// PeerIsOwner says whether the other end of a unix socket is a process of our
// own user. Inside the user namespace that is its root: the user that started
// kelp, or root in a container that the user gave the socket to.
func PeerIsOwner(conn *net.UnixConn) bool {
	raw, err := conn.SyscallConn()
	if err != nil {
		return false
	}
	var cred *unix.Ucred
	if cerr := raw.Control(func(fd uintptr) {
		cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); cerr != nil || err != nil {
		return false
	}
	return int(cred.Uid) == os.Getuid()
}
