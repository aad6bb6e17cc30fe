package apiserver

import (
	"context"
	"net/http"
	"slices"

	types "github.com/moby/moby/api/types/system"

	"github.com/kelp-engine/kelp/engine/fault"
	"github.com/kelp-engine/kelp/engine/system"
)

var systemRoutes = []route{
	{"GET", "/_ping", (*Server).ping},
	{"HEAD", "/_ping", (*Server).ping},
	{"GET", "/version", (*Server).version},
	{"GET", "/info", (*Server).info},
	{"GET", "/system/df", (*Server).diskUsage},
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
func (s *Server) version(_ context.Context, r *request) (response, error) {
	v := s.engine.System.Version()
	v.APIVersion, v.MinAPIVersion = newestFor(r.http.UserAgent()), MinAPIVersion
	v.Components[0].Details["ApiVersion"], v.Components[0].Details["MinAPIVersion"] = v.APIVersion, v.MinAPIVersion
	return ok(v), nil
}

// info serves GET /info.
func (s *Server) info(ctx context.Context, r *request) (response, error) {
	info, err := s.engine.System.Info(ctx)
	if err != nil {
		return nil, err
	}
	return ok(infoFor(r, info)), nil
}

// diskUsage serves GET /system/df.
func (s *Server) diskUsage(ctx context.Context, r *request) (response, error) {
	objects := system.Objects
	if r.since("1.42") && r.has("type") {
		objects = nil
		for _, t := range r.values["type"] {
			if !slices.Contains(system.Objects, types.DiskUsageObject(t)) {
				return nil, fault.InvalidArgument("unknown object type: %s", t).
					WithHint("the types are %s", joined(system.Objects))
			}
			objects = append(objects, types.DiskUsageObject(t))
		}
	}
	usage, err := s.engine.System.DiskUsage(ctx, objects)
	if err != nil {
		return nil, err
	}
	return ok(diskUsageFor(r, usage)), nil
}

func joined[T ~string](names []T) string {
	var text string
	for i, n := range names {
		if i > 0 {
			text += ", "
		}
		text += string(n)
	}
	return text
}
