// Package coverage says of every endpoint, parameter and field of the Engine
// API's definition whether kelp honours it, and what shows that: table.txt.
//
// It must not judge kelp itself: test/api sends what the table says is
// refused, and the tests that the table names show what is honoured.
package coverage

import (
	_ "embed"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

//go:embed table.txt
var text string

// Kind is what becomes of a parameter, a field or an endpoint.
type Kind string

// Kinds.
const (
	Honoured Kind = "honoured" // Test shows it by Text
	Refused  Kind = "refused"  // Value is answered with Status and Text
	Noted    Kind = "noted"    // there is nothing to do on Linux, as Text says
	Absent   Kind = "absent"   // an endpoint that answers Status and Text
)

// Fate is an entry of the table.
type Fate struct {
	Kind
	Test   string
	Status int
	Value  string
	Text   string
}

var refusal = regexp.MustCompile(`^(refused|absent) ([0-9]{3})(?: (\S+))?: (.*)$`)

// Table returns the fates by name: "METHOD PATH", "METHOD PATH parameter" or
// "Definition.field".
func Table() (map[string]Fate, error) {
	fates := map[string]Fate{}
	section := ""
	for n, line := range strings.Split(text, "\n") {
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, value, _ := strings.Cut(strings.TrimPrefix(line, "\t"), "  ")
		value = strings.TrimSpace(value)
		switch {
		case !strings.HasPrefix(line, "\t"):
			section = name
			if value == "" {
				continue
			}
		case strings.Contains(section, " ") && !strings.HasPrefix(name, "."):
			name = section + " " + name
		default:
			name = section + "." + strings.TrimPrefix(name, ".")
		}
		f, err := parse(value)
		if err != nil {
			return nil, fmt.Errorf("table.txt:%d: %w", n+1, err)
		}
		if _, twice := fates[name]; twice {
			return nil, fmt.Errorf("table.txt:%d: %s is there twice", n+1, name)
		}
		fates[name] = f
	}
	return fates, nil
}

func parse(value string) (Fate, error) {
	if m := refusal.FindStringSubmatch(value); m != nil {
		status, err := strconv.Atoi(m[2])
		return Fate{Kind: Kind(m[1]), Status: status, Value: m[3], Text: m[4]}, err
	}
	test, by, ok := strings.Cut(value, ": ")
	if !ok {
		return Fate{}, fmt.Errorf("%q is neither 'TEST: TEXT', 'noted: WHY', 'refused STATUS VALUE: TEXT' nor 'absent STATUS: TEXT'", value)
	}
	if test == string(Noted) {
		return Fate{Kind: Noted, Text: by}, nil
	}
	return Fate{Kind: Honoured, Test: test, Text: by}, nil
}

// File is the path, from the repository's root, of the test that shows a fate.
func (f Fate) File() string {
	if strings.Contains(f.Test, "/") {
		return f.Test
	}
	return "test/script/" + f.Test + ".txtar"
}
