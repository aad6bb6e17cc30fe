package system

import (
	"debug/buildinfo"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/system"

	"github.com/kelp-engine/kelp/engine/keeper/program"
)

// Component is a part that kelp is made of.
type Component struct{ Name, Version string }

// parts are the modules that are shown, by the name they go by.
var parts = []struct{ name, module string }{
	{"libcontainer", "github.com/opencontainers/runc"},
	{"containers/storage", "go.podman.io/storage"},
	{"containers/image", "go.podman.io/image/v5"},
	{"gVisor", "gvisor.dev/gvisor"},
	{"RootlessKit", "github.com/rootless-containers/rootlesskit/v3"},
}

// components finds the parts' versions in the build information of this
// program and of the keeper's.
func components() []Component {
	versions := map[string]string{}
	own, _ := debug.ReadBuildInfo()
	keepers, _ := program.BuildInfo()
	for _, info := range []*debug.BuildInfo{own, keepers} {
		if info == nil {
			continue
		}
		for _, m := range info.Deps {
			if m.Replace != nil {
				m = m.Replace
			}
			versions[m.Path] = m.Version
		}
	}
	var all []Component
	for _, p := range parts {
		if v := versions[p.module]; v != "" {
			all = append(all, Component{p.name, strings.TrimPrefix(v, "v")})
		}
	}
	return all
}

func (m *Manager) version(name string) string {
	for _, c := range m.versions() {
		if c.Name == name {
			return c.Version
		}
	}
	return ""
}

// Version returns what `docker version` shows of the engine, but for the API
// versions, which the caller knows.
func (m *Manager) Version() system.VersionResponse {
	v := system.VersionResponse{
		Platform:      system.PlatformInfo{Name: "kelp"},
		Version:       m.o.Version,
		Os:            runtime.GOOS,
		Arch:          runtime.GOARCH,
		GoVersion:     runtime.Version(),
		KernelVersion: readHost().kernel,
	}
	if own, ok := debug.ReadBuildInfo(); ok {
		v.GitCommit, v.BuildTime = revision(own)
	}
	v.Components = []system.ComponentVersion{{
		Name:    "Engine",
		Version: v.Version,
		Details: map[string]string{
			"Os": v.Os, "Arch": v.Arch, "GoVersion": v.GoVersion, "KernelVersion": v.KernelVersion,
			"GitCommit": v.GitCommit, "BuildTime": v.BuildTime, "Experimental": strconv.FormatBool(v.Experimental),
		},
	}}
	for _, c := range m.versions() {
		v.Components = append(v.Components, system.ComponentVersion{Name: c.Name, Version: c.Version})
	}
	return v
}

// revision is the commit that was built and its time; kelp's builds do not
// depend on when they are made.
func revision(info *buildinfo.BuildInfo) (commit, at string) {
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			commit = s.Value
		case "vcs.time":
			at = s.Value
		}
	}
	return commit, at
}
