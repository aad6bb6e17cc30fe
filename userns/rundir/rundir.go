// Package rundir decides where kelp keeps what is its user's own: the runtime
// directory (sockets and other files that end with the session) and the data
// root (images, containers, volumes).
//
// It must not create anything but those two directories themselves, and
// sockets.
package rundir

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"unicode"

	"golang.org/x/sys/unix"

	"github.com/kelp-engine/kelp/engine/fault"
	"github.com/kelp-engine/kelp/userns/account"
)

// Names of the files that kelp makes in the runtime directory.
const (
	// APISocket is the Engine API socket.
	APISocket = "docker.sock"
	// KeeperSocket is the keeper's private socket.
	KeeperSocket = "keeper.sock"
	// ProxySocket is the socket of `kelp proxy`.
	ProxySocket = "proxy.sock"
)

// maxSocketPath is the longest path a unix socket may have, in bytes: sun_path
// is 108 with its final NUL (unix(7)).
const maxSocketPath = 107

// Runtime returns the runtime directory, $XDG_RUNTIME_DIR/kelp or
// /tmp/kelp-$UID, made with mode 0700 when missing.
//
// A directory that belongs to another user, that others may enter, or that is
// a symbolic link is refused: in /tmp anybody may have put it there.
func Runtime() (string, error) {
	dir := "/tmp/kelp-" + strconv.Itoa(os.Getuid())
	if x := os.Getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(x) && usable(x) {
		dir = filepath.Join(x, "kelp")
	}
	return dir, MakePrivate(dir)
}

// usable says whether an XDG_RUNTIME_DIR may be taken: su and sudo leave
// another user's in the environment, and a logout removes it.
func usable(dir string) bool {
	return unix.Access(dir, unix.W_OK|unix.X_OK) == nil
}

// MakePrivate makes dir (mode 0700) or checks that the existing one is a
// directory that only the calling user can enter.
func MakePrivate(dir string) error {
	if most := maxSocketPath - 1 - len(KeeperSocket); len(dir) > most {
		return fault.InvalidArgument("the runtime directory %s is too long for a unix socket in it: %d bytes, %d at most", dir, len(dir), most).
			WithHint("set XDG_RUNTIME_DIR to a shorter path")
	}
	if err := checkParent(filepath.Dir(dir)); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err == nil {
		return os.Chmod(dir, 0o700) // an umask may have taken the owner's bits away
	} else if !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("cannot make the runtime directory: %w", err)
	}
	var st unix.Stat_t
	if err := unix.Lstat(dir, &st); err != nil {
		return fmt.Errorf("cannot look at the runtime directory %s: %w", dir, err)
	}
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFDIR:
		return fault.PermissionDenied("the runtime directory %s is not a directory", dir).
			WithHint("remove it, or set XDG_RUNTIME_DIR to a directory of your own")
	case int(st.Uid) != os.Getuid():
		return fault.PermissionDenied("the runtime directory %s belongs to uid %d, not to you (uid %d)", dir, st.Uid, os.Getuid()).
			WithHint("set XDG_RUNTIME_DIR to a directory of your own")
	case st.Mode&0o077 != 0:
		return fault.PermissionDenied("the runtime directory %s is open to other users (mode %#o)", dir, st.Mode&0o777).
			WithHint("run: chmod 700 %s", dir)
	}
	return nil
}

// checkParent refuses a directory in which somebody else could put another
// directory in the place of ours.
func checkParent(dir string) error {
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return fmt.Errorf("cannot look at %s: %w", dir, err)
	}
	switch {
	case st.Uid != 0 && int(st.Uid) != os.Getuid():
		return fault.PermissionDenied("the directory %s belongs to uid %d, not to you (uid %d)", dir, st.Uid, os.Getuid()).
			WithHint("set XDG_RUNTIME_DIR to a directory of your own")
	case st.Mode&0o002 != 0 && st.Mode&unix.S_ISVTX == 0:
		return fault.PermissionDenied("in the directory %s everybody may replace what belongs to you (mode %#o)", dir, st.Mode&0o7777).
			WithHint("set XDG_RUNTIME_DIR to a directory of your own")
	}
	return nil
}

// CheckSocketPath refuses a path that no unix socket can have.
func CheckSocketPath(path string) error {
	switch {
	case len(path) > maxSocketPath:
		return fault.InvalidArgument("the socket's path %s is too long: %d bytes, %d at most", path, len(path), maxSocketPath).
			WithHint("choose a shorter one with --socket")
	case strings.ContainsFunc(path, unicode.IsControl):
		return fault.InvalidArgument("the socket's path %q has control characters", path)
	}
	return nil
}

// Data returns the data root, $XDG_DATA_HOME/kelp or ~/.local/share/kelp. It
// is not made here.
func Data() (string, error) {
	if d := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(d) {
		return filepath.Join(d, "kelp"), nil
	}
	home := Home()
	if home == "" {
		return "", fault.InvalidArgument("cannot choose a data root: HOME is not set and your account has no home directory").
			WithHint("set HOME, or start kelp with --data-root DIR")
	}
	return filepath.Join(home, ".local", "share", "kelp"), nil
}

// Config returns the path of the user's configuration file,
// $XDG_CONFIG_HOME/kelp/config.json or ~/.config/kelp/config.json; "" when
// neither variable is set.
func Config() string {
	if d := os.Getenv("XDG_CONFIG_HOME"); filepath.IsAbs(d) {
		return filepath.Join(d, "kelp", "config.json")
	}
	if h := Home(); h != "" {
		return filepath.Join(h, ".config", "kelp", "config.json")
	}
	return ""
}

// Home returns $HOME, else the home directory of the user's account; "" when
// neither is an absolute path.
func Home() string {
	if home := os.Getenv("HOME"); filepath.IsAbs(home) {
		return home
	}
	if home := account.Current().Home; filepath.IsAbs(home) {
		return home
	}
	return ""
}
