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
	return Account{Name: uid}
})

// Export sets $USER and $HOME, if that is empty, to the account's: libraries
// that ask os/user get these where /etc/passwd does not know the user.
func Export() {
	a := Current()
	os.Setenv("USER", a.Name)
	if os.Getenv("HOME") == "" && a.Home != "" {
		os.Setenv("HOME", a.Home)
	}
}

// find looks for uid in lines of passwd(5).
func find(lines, uid string) (Account, bool) {
	for line := range strings.Lines(lines) {
		f := strings.Split(strings.TrimSuffix(line, "\n"), ":")
		if len(f) == 7 && f[0] != "" && f[2] == uid {
			return Account{Name: f[0], Home: f[5]}, true
		}
	}
	return Account{}, false
}
