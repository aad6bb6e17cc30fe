package server

import (
	"net"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/kelp-engine/kelp/engine/keeper"
	"github.com/kelp-engine/kelp/userns/rundir"
)

// firstSocket is the file descriptor from which on systemd hands over
// listening sockets (sd_listen_fds(3)).
const firstSocket = 3

// listenAPI returns the Engine API's listening socket: the one that systemd
// handed over, or a new one.
func listenAPI(cfg keeper.Config) (*os.File, error) {
	if cfg.Sockets > 0 {
		for fd := firstSocket; fd < firstSocket+cfg.Sockets; fd++ {
			unix.CloseOnExec(fd)
		}
		return os.NewFile(firstSocket, "systemd-socket"), nil
	}
	l, err := rundir.Listen(cfg.Socket)
	if err != nil {
		return nil, err
	}
	defer l.Close()
	l.SetUnlinkOnClose(false)
	return l.File()
}

// listenKeeper makes the keeper's private socket.
func listenKeeper(runtimeDir string) (*net.UnixListener, error) {
	return rundir.Listen(filepath.Join(runtimeDir, rundir.KeeperSocket))
}
