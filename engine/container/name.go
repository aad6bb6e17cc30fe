package container

import (
	"crypto/rand"
	"encoding/hex"
	mathrand "math/rand/v2"
	"regexp"
	"strconv"
	"strings"

	"github.com/kelp-engine/kelp/engine/fault"
)

const nameChars = `[a-zA-Z0-9][a-zA-Z0-9_.-]`

var validName = regexp.MustCompile(`^/?` + nameChars + `+$`)

// checkName returns name without the leading slash, if it is a valid one.
func checkName(name string) (string, error) {
	if !validName.MatchString(name) {
		return "", fault.InvalidArgument("Invalid container name (%s), only %s are allowed", name, nameChars)
	}
	return strings.TrimPrefix(name, "/"), nil
}

// newID returns 32 random bytes in hexadecimal. One whose short form is a
// decimal number is passed over: as a host name it would be taken for one.
func newID() string {
	b := make([]byte, 32)
	for {
		_, _ = rand.Read(b) // cannot fail
		id := hex.EncodeToString(b)
		if _, err := strconv.ParseInt(id[:12], 10, 64); err != nil {
			return id
		}
	}
}

// randomName returns adjective_surname, with a number from the second try on.
func randomName(try int) string {
	name := adjectives[mathrand.IntN(len(adjectives))] + "_" + surnames[mathrand.IntN(len(surnames))]
	if try > 0 {
		name += strconv.Itoa(mathrand.IntN(10 * try))
	}
	return name
}

// reserve gives name to the container id, or a random name when it is "".
func (g *registry) reserve(id, name string) (string, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if name == "" {
		for try := 0; ; try++ {
			name = randomName(try)
			if _, taken := g.names[name]; !taken {
				break
			}
		}
	} else if by, taken := g.names[name]; taken {
		return "", fault.Conflict("Conflict. The container name %q is already in use by container %q. You have to remove (or rename) that container to be able to reuse that name.", "/"+name, by)
	}
	g.names[name] = id
	return name, nil
}

// unreserve frees name if it is the container id's.
func (g *registry) unreserve(id, name string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.names[name] == id {
		delete(g.names, name)
	}
}
