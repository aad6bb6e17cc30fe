package mounts

import (
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/mount"

	"github.com/kelp-engine/kelp/engine/fault"
)

// The words that the option part of a bind string is made of, each kind of
// which may occur once.
var (
	accessModes      = []string{"rw", "ro"}
	labelModes       = []string{"z", "Z"}
	copyModes        = []string{"nocopy"}
	propagationModes = []string{"private", "rprivate", "slave", "rslave", "shared", "rshared"}
	consistencies    = []string{"consistent", "cached", "delegated", "default"}
)

// validMode says whether mode is the option part of a bind string. Labels
// and consistencies change nothing where kelp runs: it puts containers under
// no SELinux label, and a bind on Linux is always consistent.
func validMode(mode string) bool {
	if mode == "" {
		return true
	}
	kinds := [][]string{accessModes, labelModes, copyModes, propagationModes, consistencies}
	seen := make([]bool, len(kinds))
	for _, o := range strings.Split(mode, ",") {
		i := slices.IndexFunc(kinds, func(k []string) bool { return slices.Contains(k, o) })
		if i < 0 || seen[i] {
			return false
		}
		seen[i] = true
	}
	return true
}

func hasMode(mode, word string) bool { return slices.Contains(strings.Split(mode, ","), word) }

func propagationOf(mode string) mount.Propagation {
	for _, o := range strings.Split(mode, ",") {
		if slices.Contains(propagationModes, o) {
			return mount.Propagation(o)
		}
	}
	return ""
}

// parseBind reads a string of HostConfig.Binds: [SOURCE:]TARGET[:OPTIONS].
func parseBind(raw, driver string) (Point, error) {
	bad := func() (Point, error) {
		return Point{}, fault.InvalidArgument("invalid volume specification: '%s'", raw)
	}
	parts := strings.SplitN(raw, ":", 4)
	if len(parts) > 3 || parts[0] == "" {
		return bad()
	}
	var p Point
	switch len(parts) {
	case 1:
		p.Target = parts[0]
	case 2:
		if parts[1] == "" || validMode(parts[1]) {
			return bad() // TARGET:OPTIONS
		}
		p.Source, p.Target = parts[0], parts[1]
	case 3:
		p.Source, p.Target, p.Mode = parts[0], parts[1], parts[2]
	}
	if !validMode(p.Mode) {
		return Point{}, fault.InvalidArgument("invalid mode: %s", p.Mode)
	}
	var err error
	if p.Target, err = cleanTarget(p.Target); err != nil {
		return Point{}, fault.InvalidArgument("invalid volume specification: '%s': %w", raw, err)
	}
	p.ReadOnly = hasMode(p.Mode, "ro")
	if filepath.IsAbs(p.Source) {
		return bindPoint(p)
	}
	return volumePoint(p, driver)
}

func bindPoint(p Point) (Point, error) {
	if strings.ContainsRune(p.Source, 0) {
		return Point{}, fault.InvalidArgument("invalid volume specification: the source has a zero byte")
	}
	p.Type = mount.TypeBind
	p.Source = filepath.Clean(p.Source)
	p.Create = true
	if hasMode(p.Mode, "nocopy") {
		return Point{}, fault.InvalidArgument("invalid mode: %s: nocopy is for volumes", p.Mode)
	}
	if p.Propagation = propagationOf(p.Mode); p.Propagation == "" {
		p.Propagation = mount.PropagationRPrivate
	}
	return p, nil
}

func volumePoint(p Point, driver string) (Point, error) {
	p.Type = mount.TypeVolume
	p.Name, p.Source, p.Driver = p.Source, "", driver
	p.NoCopy = hasMode(p.Mode, "nocopy")
	p.Anonymous = p.Name == ""
	if propagationOf(p.Mode) != "" {
		return Point{}, fault.InvalidArgument("invalid mode: %s: propagation is for binds", p.Mode)
	}
	if p.Name == "" {
		return p, nil
	}
	return p, CheckName(p.Name)
}

var volumeName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]+$`)

// CheckName refuses what is no volume name.
func CheckName(name string) error {
	if len(name) < 2 {
		return fault.InvalidArgument("volume name is too short, names should be at least two alphanumeric characters")
	}
	if !volumeName.MatchString(name) {
		return fault.InvalidArgument("create %s: %q includes invalid characters for a local volume name, only %q are allowed. If you intended to pass a host directory, use absolute path",
			name, name, "[a-zA-Z0-9][a-zA-Z0-9_.-]")
	}
	if len(name) > 240 {
		return fault.InvalidArgument("volume name %.20s… is too long: %d characters, 240 are allowed", name, len(name))
	}
	return nil
}

// cleanTarget is the absolute path in the container that target means.
func cleanTarget(target string) (string, error) {
	switch {
	case target == "":
		return "", fault.InvalidArgument("field Target must not be empty")
	case strings.ContainsRune(target, 0):
		return "", fault.InvalidArgument("invalid mount path: it has a zero byte")
	case !path.IsAbs(target):
		return "", fault.InvalidArgument("invalid mount path: '%s' mount path must be absolute", target)
	case path.Clean(target) == "/":
		return "", fault.InvalidArgument("invalid specification: destination can't be '/'")
	}
	return path.Clean(target), nil
}
