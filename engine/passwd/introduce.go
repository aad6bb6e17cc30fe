package passwd

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/moby/sys/user"
	"golang.org/x/sys/unix"

	"github.com/kelp-engine/kelp/engine/fault"
)

// User is somebody whom a container is to know.
type User struct {
	Name, Gecos, Home string
	UID               uint32
	Group             string
	GID               uint32
}

// Introduce makes u known in a root file system where this process's user is
// u and others are root: it adds the lines for u's ids that /etc/passwd and
// /etc/group lack, and with the former u's home, unless that lies in one of
// the directories mounted. If somebody else there has u's name or home, u gets
// others. Nothing is done to an image whose /etc is no directory.
//
// Preconditions: nothing runs in the file system yet.
func Introduce(rootfs string, u User, mounted []string) error {
	root, err := os.Open(rootfs)
	if err != nil {
		return err
	}
	defer root.Close()
	t := tree{root: root}
	if err := unix.Fstat(int(root.Fd()), &t.owner); err != nil {
		return err
	}
	if err := t.addUser(&u, mounted); err != nil && !unusable(err) {
		return fmt.Errorf("cannot make user %s known to the container: %w", u.Name, err)
	}
	if err := t.addGroup(u); err != nil && !unusable(err) {
		return fmt.Errorf("cannot make group %s known to the container: %w", u.Group, err)
	}
	return nil
}

// addUser adds u's line to the passwd file. The image knows root.
func (t tree) addUser(u *User, mounted []string) error {
	file, err := Read(t.root.Name(), Users)
	if err != nil || u.UID == 0 {
		return err
	}
	all, err := user.ParsePasswdFilter(bytes.NewReader(file), func(have user.User) bool {
		return have.Uid == int(u.UID) || have.Name == u.Name
	})
	if err != nil {
		return fault.InvalidArgument("cannot read %s of the container: %w", Users, err)
	}
	for _, have := range all {
		if have.Uid == int(u.UID) {
			return nil
		}
	}
	if len(all) > 0 {
		u.Name = fmt.Sprintf("%s-%d", u.Name, u.UID)
	}
	home, err := t.makeHome(*u, mounted)
	if err != nil {
		return err
	}
	return t.addLine(Users, file, fmt.Sprintf("%s:*:%d:%d:%s:%s:/bin/sh\n", u.Name, u.UID, u.GID, u.Gecos, home))
}

// addGroup adds the line of u's group to the group file.
func (t tree) addGroup(u User) error {
	file, err := Read(t.root.Name(), Groups)
	if err != nil || u.GID == 0 {
		return err
	}
	all, err := user.ParseGroupFilter(bytes.NewReader(file), func(have user.Group) bool {
		return have.Gid == int(u.GID) || have.Name == u.Group
	})
	if err != nil {
		return fault.InvalidArgument("cannot read %s of the container: %w", Groups, err)
	}
	for _, have := range all {
		if have.Gid == int(u.GID) {
			return nil
		}
	}
	if len(all) > 0 {
		u.Group = fmt.Sprintf("%s-%d", u.Group, u.GID)
	}
	return t.addLine(Groups, file, fmt.Sprintf("%s:*:%d:\n", u.Group, u.GID))
}

// makeHome returns the path of u's home after it has made what is missing of
// it: the one that u has elsewhere, or one in /home.
func (t tree) makeHome(u User, mounted []string) (string, error) {
	for _, home := range []string{u.Home, "/home/" + u.Name} {
		home = path.Clean(home)
		if !path.IsAbs(home) || home == "/" {
			continue
		}
		for _, dir := range mounted {
			if home == dir || strings.HasPrefix(home, strings.TrimSuffix(dir, "/")+"/") {
				return home, nil
			}
		}
		switch own, err := t.ownDir(home); {
		case err != nil && !unusable(err):
			return "", err
		case own:
			return home, nil
		}
	}
	return "/", nil
}

// unusable says that a path leads through what is no directory.
func unusable(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrExist) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP)
}
