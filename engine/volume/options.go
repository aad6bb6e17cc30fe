package volume

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/kelp-engine/kelp/engine/fault"
)

// mountFlags are the words of the option "o" that are flags of mount(2).
var mountFlags = map[string]uintptr{
	"bind":        unix.MS_BIND,
	"rbind":       unix.MS_BIND | unix.MS_REC,
	"ro":          unix.MS_RDONLY,
	"nosuid":      unix.MS_NOSUID,
	"nodev":       unix.MS_NODEV,
	"noexec":      unix.MS_NOEXEC,
	"noatime":     unix.MS_NOATIME,
	"nodiratime":  unix.MS_NODIRATIME,
	"relatime":    unix.MS_RELATIME,
	"strictatime": unix.MS_STRICTATIME,
	"sync":        unix.MS_SYNCHRONOUS,
	"dirsync":     unix.MS_DIRSYNC,
}

// noFlags are the words that ask for what is so anyway.
var noFlags = []string{"", "defaults", "rw", "suid", "dev", "exec", "async", "atime", "diratime"}

// source is what a volume with driver options is mounted from.
type source struct {
	fs, device string
	flags      uintptr
	data       string
}

// checkOptions refuses driver options that do not exist or that an ordinary
// user cannot have.
func checkOptions(o map[string]string) error {
	_, err := parseOptions(o)
	return err
}

// parseOptions reads the options type, device and o of the driver local. None
// at all is a zero source: the volume is a directory of its own.
func parseOptions(opts map[string]string) (s source, err error) {
	for k := range opts {
		if !slices.Contains([]string{"type", "device", "o", "size"}, k) {
			return s, fault.InvalidArgument("invalid option: %q", k)
		}
	}
	if opts["size"] != "" {
		return s, fault.InvalidArgument("quota size requested but no quota support").
			WithHint("use the options type=tmpfs, device=tmpfs and o=size=… for a volume in memory of limited size")
	}
	s.fs, s.device = opts["type"], opts["device"]
	var data []string
	for _, w := range strings.Split(opts["o"], ",") {
		if f, ok := mountFlags[w]; ok {
			s.flags |= f
		} else if !slices.Contains(noFlags, w) {
			data = append(data, w)
		}
	}
	s.data = strings.Join(data, ",")
	if s == (source{}) {
		return s, nil
	}
	if strings.ContainsRune(s.fs+s.device+s.data, 0) {
		return s, fault.InvalidArgument("an option has a zero byte")
	}
	return s, s.check()
}

func (s *source) check() error {
	bind := s.flags&unix.MS_BIND != 0
	switch {
	case s.device == "":
		return fault.InvalidArgument("missing required option: %q", "device")
	case bind && s.data != "":
		return fault.InvalidArgument("invalid option %q: a bind takes flags only", s.data)
	case bind && !filepath.IsAbs(s.device):
		return fault.InvalidArgument("invalid option: the device %q of a bind must be an absolute path", s.device)
	case bind:
		return nil
	case s.fs == "tmpfs" || s.fs == "overlay":
		return nil
	case s.fs == "":
		return fault.InvalidArgument("missing required option: %q", "type")
	}
	return fault.InvalidArgument("cannot mount a volume of type %q: an ordinary user may mount tmpfs, overlay and binds (o=bind) only", s.fs).
		WithHint("have %s mounted on the host and give that path with o=bind", s.device)
}

// mount mounts the source at target, an empty directory.
func (s *source) mount(volume, target string) error {
	fail := func(err error) error {
		return fault.Internal("error while mounting volume '%s': failed to mount local volume: mount %s:%s, flags: %#x: %w", volume, s.device, target, s.flags, err)
	}
	if s.flags&unix.MS_BIND != 0 {
		if _, err := os.Stat(s.device); err != nil {
			return fail(err)
		}
	}
	if err := unix.Mount(s.device, target, s.fs, s.flags, s.data); err != nil {
		return fail(err)
	}
	if rest := s.flags &^ (unix.MS_BIND | unix.MS_REC); s.flags&unix.MS_BIND != 0 && rest != 0 {
		// The kernel takes the other flags of a bind in a second step only.
		if err := remount(target, rest); err != nil {
			_ = unix.Unmount(target, unix.MNT_DETACH)
			return fail(err)
		}
	}
	return nil
}

// remount adds flags to the mount at path, keeping those that it has: a user
// namespace may not take them away.
func remount(path string, flags uintptr) error {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return fmt.Errorf("cannot read the flags of %s: %w", path, err)
	}
	for _, f := range []struct{ stat, mount uintptr }{
		{unix.ST_NOSUID, unix.MS_NOSUID},
		{unix.ST_NODEV, unix.MS_NODEV},
		{unix.ST_NOEXEC, unix.MS_NOEXEC},
		{unix.ST_RDONLY, unix.MS_RDONLY},
		{unix.ST_NOATIME, unix.MS_NOATIME},
		{unix.ST_NODIRATIME, unix.MS_NODIRATIME},
		{unix.ST_RELATIME, unix.MS_RELATIME},
	} {
		if uintptr(st.Flags)&f.stat != 0 {
			flags |= f.mount
		}
	}
	return unix.Mount("", path, "", flags|unix.MS_BIND|unix.MS_REMOUNT, "")
}
