// Package account says who the calling user is, also where that is known to a
// directory service only: kelp is linked without libc's resolver of names, so
// os/user knows /etc/passwd and nothing else.
package account

import (
	"context"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"time"
)

// nameServiceTimeout bounds a question to a directory service.
const nameServiceTimeout = 10 * time.Second

// Account is a user of the host.
type Account struct {
	Name  string // the uid when the user has none
	Gecos string // the user's full name, and more after a comma
	Home  string // "" when the user has none
	// GID is the account's own group, -1 when the user has no account. A
	// process's is another after newgrp(1).
	GID int
}

// Current returns the calling user's account. The environment does not count:
// su leaves another user's in it.
var Current = sync.OnceValue(func() Account { return Of(os.Getuid()) })

// Of returns the account of a user id, from /etc/passwd or, where that does
// not have it, from getent(1).
func Of(uid int) Account {
	if a, ok := lookUp("passwd", uid, find); ok {
		return a
	}
	return Account{Name: strconv.Itoa(uid), GID: -1}
}

// Group returns the name of a group, its number if it has none.
func Group(gid int) string {
	if name, ok := lookUp("group", gid, findGroup); ok {
		return name
	}
	return strconv.Itoa(gid)
}

// lookUp searches a database of nsswitch.conf(5) for an id.
func lookUp[T any](database string, id int, find func(lines, id string) (T, bool)) (T, bool) {
	number := strconv.Itoa(id)
	local, _ := os.ReadFile("/etc/" + database)
	if found, ok := find(string(local), number); ok {
		return found, true
	}
	ctx, cancel := context.WithTimeout(context.Background(), nameServiceTimeout)
	defer cancel()
	out, err := exec.CommandContext(ctx, "getent", database, number).Output()
	found, ok := find(string(out), number)
	return found, ok && err == nil
}

// groupsEnv holds the numbers of the user's supplementary groups, which
// nobody can learn inside a user namespace.
const groupsEnv = "KELP_GROUPS"

// Export sets $USER and $HOME, if that is empty, to the account's: libraries
// that ask os/user get these where /etc/passwd does not know the user. It also
// tells Groups in processes started from now on.
func Export() {
	a := Current()
	os.Setenv("USER", a.Name)
	if os.Getenv("HOME") == "" && a.Home != "" {
		os.Setenv("HOME", a.Home)
	}
	groups, _ := os.Getgroups()
	var list []string
	for _, g := range groups {
		if g != os.Getgid() {
			list = append(list, strconv.Itoa(g))
		}
	}
	os.Setenv(groupsEnv, strings.Join(list, " "))
}

// Groups returns the supplementary groups, beside the first one, that the
// process had that called Export.
func Groups() (list []uint32) {
	for _, s := range strings.Fields(os.Getenv(groupsEnv)) {
		if g, err := strconv.ParseUint(s, 10, 32); err == nil {
			list = append(list, uint32(g))
		}
	}
	return list
}

// find looks for uid in lines of passwd(5).
func find(lines, uid string) (Account, bool) {
	for line := range strings.Lines(lines) {
		f := strings.Split(strings.TrimSuffix(line, "\n"), ":")
		if len(f) != 7 || f[0] == "" || f[2] != uid {
			continue
		}
		if gid, err := strconv.Atoi(f[3]); err == nil {
			return Account{Name: f[0], Gecos: f[4], Home: f[5], GID: gid}, true
		}
	}
	return Account{}, false
}

// findGroup looks for gid in lines of group(5).
func findGroup(lines, gid string) (string, bool) {
	for line := range strings.Lines(lines) {
		if f := strings.Split(strings.TrimSuffix(line, "\n"), ":"); len(f) == 4 && f[0] != "" && f[2] == gid {
			return f[0], true
		}
	}
	return "", false
}
