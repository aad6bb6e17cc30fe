package apiserver

import (
	"context"
	"net/http"
	"runtime"

	"github.com/moby/moby/api/types/system"

	"github.com/kelp-engine/kelp/engine"
)

var systemRoutes = []route{
	{"GET", "/_ping", (*Server).ping},
	{"HEAD", "/_ping", (*Server).ping},
	{"GET", "/version", (*Server).version},
}

// ping serves GET and HEAD /_ping.
func (s *Server) ping(context.Context, *request) (response, error) {
	return responseFunc(func(w http.ResponseWriter, r *http.Request) error {
		w.Header().Set("Cache-Control", "no-cache, no-store, must-revalidate")
		w.Header().Set("Pragma", "no-cache")
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("Swarm", "inactive")
		if r.Method == http.MethodHead {
			return nil
		}
		_, err := w.Write([]byte("OK"))
		return err
	}), nil
}

// version serves GET /version.
func (s *Server) version(context.Context, *request) (response, error) {
	v := engine.Version()
	return ok(system.VersionResponse{
		Platform:      system.PlatformInfo{Name: "kelp"},
		Version:       v,
		APIVersion:    MaxAPIVersion,
		MinAPIVersion: MinAPIVersion,
		Os:            runtime.GOOS,
		Arch:          runtime.GOARCH,
		GoVersion:     runtime.Version(),
		Components: []system.ComponentVersion{
			{Name: "Engine", Version: v, Details: map[string]string{"ApiVersion": MaxAPIVersion, "MinAPIVersion": MinAPIVersion, "Os": runtime.GOOS, "Arch": runtime.GOARCH, "GoVersion": runtime.Version()}},
		},
	}), nil
}
