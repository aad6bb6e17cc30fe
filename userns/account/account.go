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
	Name string // the uid when the user has none
	Home string // "" when the user has none
	// GID is the account's own group, -1 when the user has no account. A
	// process's is another after newgrp(1).
	GID int
}

// Current returns the calling user's account, from /etc/passwd or, where that
// does not have it, from getent(1). The environment does not count: su leaves
// another user's in it.
var Current = sync.OnceValue(func() Account {
	uid := strconv.Itoa(os.Getuid())
	local, _ := os.ReadFile("/etc/passwd")
	if a, ok := find(string(local), uid); ok {
		return a
	}
	ctx, cancel := context.WithTimeout(context.Background(), nameServiceTimeout)
	defer cancel()
	out, err := exec.CommandContext(ctx, "getent", "passwd", uid).Output()
	if a, ok := find(string(out), uid); ok && err == nil {
		return a
	}
	return Account{Name: uid, GID: -1}
})

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
			return Account{Name: f[0], Home: f[5], GID: gid}, true
		}
	}
	return Account{}, false
}
