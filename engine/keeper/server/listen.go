package server

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/kelp-engine/kelp/engine/fault"
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
	l, err := listenPrivate(cfg.Socket)
	if err != nil {
		return nil, err
	}
	defer l.Close()
	l.SetUnlinkOnClose(false)
	return l.File()
}

// listenKeeper makes the keeper's private socket.
func listenKeeper(runtimeDir string) (*net.UnixListener, error) {
	return listenPrivate(filepath.Join(runtimeDir, rundir.KeeperSocket))
}

// listenPrivate makes a unix socket of mode 0600 in place of a stale one.
// What is no socket, or one that somebody serves, is left alone.
func listenPrivate(path string) (*net.UnixListener, error) {
	if err := rundir.CheckSocketPath(path); err != nil {
		return nil, err
	}
	if err := removeStale(path); err != nil {
		return nil, err
	}
	old := unix.Umask(0o177) // from its first moment on, nobody else may connect
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	unix.Umask(old)
	if err != nil {
		return nil, fmt.Errorf("cannot listen on %s: %w", path, err)
	}
	return l, nil
}

func removeStale(path string) error {
	var st unix.Stat_t
	err := unix.Lstat(path, &st)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot look at %s: %w", path, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFSOCK {
		return fault.Conflict("cannot listen on %s: it exists and is no socket", path).
			WithHint("remove it, or choose another path with --socket")
	}
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
	if err == nil {
		conn.Close()
		return fault.Conflict("cannot listen on %s: another program serves it", path).
			WithHint("stop that program, or choose another path with --socket")
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("cannot remove the stale socket %s: %w", path, err)
	}
	return nil
}
