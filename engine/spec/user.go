package spec

import (
	"bytes"
	"errors"
	"slices"

	"github.com/moby/sys/user"

	"github.com/kelp-engine/kelp/engine/fault"
	"github.com/kelp-engine/kelp/engine/passwd"
)

// identity is a user as a process needs it.
type identity struct {
	uid, gid uint32
	groups   []uint32
	home     string
}

// lookUser finds the user and the group that spec names ("user", "uid",
// either with ":group" or ":gid"; "" is root) in the files of rootfs, and the
// groups to add, by name or number.
func lookUser(rootfs, spec string, add []string) (identity, error) {
	users, err := passwd.Read(rootfs, passwd.Users)
	if err != nil {
		return identity{}, err
	}
	group, err := passwd.Read(rootfs, passwd.Groups)
	if err != nil {
		return identity{}, err
	}
	return findUser(users, group, spec, add)
}

// findUser is lookUser on the files' content; nil is a missing file.
func findUser(passwd, group []byte, spec string, add []string) (identity, error) {
	u, err := user.GetExecUser(spec, &user.ExecUser{Home: "/"}, bytes.NewReader(passwd), bytes.NewReader(group))
	if err != nil {
		return identity{}, userError(err)
	}
	extra, err := user.GetAdditionalGroups(add, bytes.NewReader(group))
	if errors.Is(err, user.ErrNoGroupEntries) {
		return identity{}, fault.InvalidArgument("%w", err).WithHint("groups of the host are not known in a container; to use yours there is --group-add %s", keepGroups)
	}
	if err != nil {
		return identity{}, userError(err)
	}
	slices.Sort(extra)
	id := identity{home: u.Home}
	if id.home == "" {
		id.home = "/"
	}
	if id.uid, err = checkID("user", u.Uid); err != nil {
		return identity{}, err
	}
	if id.gid, err = checkID("group", u.Gid); err != nil {
		return identity{}, err
	}
	for _, g := range slices.Concat([]int{u.Gid}, u.Sgids, extra) {
		gid, err := checkID("group", g)
		if err != nil {
			return identity{}, err
		}
		if !slices.Contains(id.groups, gid) {
			id.groups = append(id.groups, gid)
		}
	}
	return id, nil
}

func userError(err error) error {
	return fault.InvalidArgument("%w", err)
}

// checkID refuses ids that no kernel takes; those that the user namespace
// lacks are refused by checkMapped.
func checkID(kind string, id int) (uint32, error) {
	if id < 0 || id > 1<<31-1 {
		return 0, fault.InvalidArgument("%s id %d is out of range", kind, id)
	}
	return uint32(id), nil
}

// checkMapped refuses an identity that the user namespace has no ids for.
func checkMapped(id identity, h Host) error {
	for _, n := range append([]uint32{id.uid, id.gid}, id.groups...) {
		if n <= h.MaxID {
			continue
		}
		err := fault.InvalidArgument("cannot run as %d:%d: id %d is not in the user namespace, which ends at %d", id.uid, id.gid, n, h.MaxID)
		if slices.Contains(h.Groups, n) {
			return err.WithHint("to use your groups of the host there is --group-add %s", keepGroups)
		}
		return err.WithHint("ask the administrator for more subordinate ids in /etc/subuid and /etc/subgid")
	}
	return nil
}

// LookUser finds a user, and the group, that a container knows as name:
// "user", "uid", either with ":group" or ":gid".
func LookUser(rootfs, name string) (uid, gid uint32, err error) {
	id, err := lookUser(rootfs, name, nil)
	return id.uid, id.gid, err
}
