package engine

import (
	"runtime/debug"
	"sync"
)

// Version of kelp, from the build information: a module version, or the
// commit that was built.
func Version() string { return version() }

// version is read once: every answer of the Engine API carries it.
var version = sync.OnceValue(func() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && len(s.Value) >= 12 {
			return "devel-" + s.Value[:12]
		}
	}
	return "devel"
})
