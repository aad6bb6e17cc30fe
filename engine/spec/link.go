package spec

import "strings"

// SplitLink reads a link to a container, "name:alias" or a name alone. Docker
// shows links as "/name:/parent/alias", and takes them so.
func SplitLink(text string) (name, alias string) {
	name, alias, ok := strings.Cut(text, ":")
	name = strings.TrimPrefix(name, "/")
	if !ok {
		return name, name
	}
	return name, alias[strings.LastIndexByte(alias, '/')+1:]
}
