// Package filter reads the "filters" parameter of the Engine API and matches
// objects against it.
//
// It must not know any kind of object; each kind names the keys it accepts.
package filter

import (
	"encoding/json"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/kelp-engine/kelp/engine/fault"
)

// Args holds the wanted values of each key. The zero value matches everything.
// Values of one key are alternatives; all keys must match.
type Args map[string][]string

// Parse reads the JSON of a filters parameter: {"key": ["value"]}, or the
// older {"key": {"value": true}}. Empty text is no filter. Keys other than
// the accepted ones are an error.
func Parse(text string, accepted ...string) (Args, error) {
	if text == "" {
		return nil, nil
	}
	args := Args{}
	if err := json.Unmarshal([]byte(text), &args); err != nil {
		sets := map[string]map[string]bool{}
		if json.Unmarshal([]byte(text), &sets) != nil {
			return nil, fault.InvalidArgument("invalid filter: %w", err)
		}
		args = Args{}
		for key, set := range sets {
			args[key] = slices.Sorted(maps.Keys(set))
		}
	}
	for key := range args {
		if !slices.Contains(accepted, key) {
			return nil, fault.InvalidArgument("invalid filter '%s'", key).
				WithHint("the filters here are %s", strings.Join(accepted, ", "))
		}
	}
	return args, nil
}

// Has says whether there is a filter on key.
func (a Args) Has(key string) bool { return len(a[key]) > 0 }

// Exact says whether value is one of those wanted, or nothing is wanted of key.
func (a Args) Exact(key, value string) bool {
	return !a.Has(key) || slices.Contains(a[key], value)
}

// Any says whether match holds for one of the values wanted, or nothing is
// wanted of key.
func (a Args) Any(key string, match func(want string) bool) bool {
	return !a.Has(key) || slices.ContainsFunc(a[key], match)
}

// Matcher returns whether one of the values wanted, read as a regular
// expression, is found in a value. One that is no regular expression is
// compared as it is.
func (a Args) Matcher(key string) func(value string) bool {
	if !a.Has(key) {
		return func(string) bool { return true }
	}
	var wanted []*regexp.Regexp
	for _, want := range a[key] {
		re, err := regexp.Compile(want)
		if err != nil {
			re = regexp.MustCompile("^" + regexp.QuoteMeta(want) + "$")
		}
		wanted = append(wanted, re)
	}
	return func(value string) bool {
		return slices.ContainsFunc(wanted, func(re *regexp.Regexp) bool { return re.MatchString(value) })
	}
}

// Labels says whether labels has every one of the labels wanted: "name", or
// "name=value".
func (a Args) Labels(key string, labels map[string]string) bool {
	for _, want := range a[key] {
		name, value, withValue := strings.Cut(want, "=")
		got, ok := labels[name]
		if !ok || withValue && got != value {
			return false
		}
	}
	return true
}

// PruneLabels says whether labels pass the keys "label" and "label!": they have
// every one of those wanted, and not every one of those unwanted.
func (a Args) PruneLabels(labels map[string]string) bool {
	return a.Labels("label", labels) && !(a.Has("label!") && a.Labels("label!", labels))
}

// Bool reads the single truth value of key, and absent when there is none.
func (a Args) Bool(key string, absent bool) (bool, error) {
	if !a.Has(key) {
		return absent, nil
	}
	var yes, no bool
	for _, v := range a[key] {
		switch v {
		case "1", "true":
			yes = true
		case "0", "false":
			no = true
		default:
			return false, fault.InvalidArgument("invalid filter '%s=%s'", key, v).WithHint("it must be true or false")
		}
	}
	if yes == no {
		return false, fault.InvalidArgument("invalid filter '%s=%s'", key, a[key]).WithHint("it cannot be both true and false")
	}
	return yes, nil
}
