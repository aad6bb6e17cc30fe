package apiserver

import (
	"context"

	"github.com/moby/moby/api/types/volume"

	"github.com/kelp-engine/kelp/engine/fault"
	"github.com/kelp-engine/kelp/engine/filter"
	volumes "github.com/kelp-engine/kelp/engine/volume"
)

var volumeRoutes = []route{
	{"GET", "/volumes", (*Server).volumeList},
	{"POST", "/volumes/create", (*Server).volumeCreate},
	{"POST", "/volumes/prune", (*Server).volumePrune},
	{"GET", "/volumes/{ref}", (*Server).volumeInspect},
	{"PUT", "/volumes/{ref}", (*Server).volumeUpdate},
	{"DELETE", "/volumes/{ref}", (*Server).volumeRemove},
}

// volumeList serves GET /volumes.
func (s *Server) volumeList(_ context.Context, r *request) (response, error) {
	f, err := r.filters(volumes.ListFilters...)
	if err != nil {
		return nil, err
	}
	list, err := s.engine.Volumes.List(f)
	if err != nil {
		return nil, err
	}
	return ok(volume.ListResponse{Volumes: list, Warnings: []string{}}), nil
}

// volumeCreate serves POST /volumes/create.
func (s *Server) volumeCreate(ctx context.Context, r *request) (response, error) {
	var req volume.CreateRequest
	if err := r.decode(&req); err != nil {
		return nil, err
	}
	v, err := s.engine.Volumes.Create(ctx, req)
	if err != nil {
		return nil, err
	}
	return created(v), nil
}

// volumeInspect serves GET /volumes/{ref}.
func (s *Server) volumeInspect(_ context.Context, r *request) (response, error) {
	v, err := s.engine.Volumes.Inspect(r.ref())
	if err != nil {
		return nil, err
	}
	return ok(v), nil
}

// volumeUpdate serves PUT /volumes/{ref}, which is for a swarm's volumes only.
func (s *Server) volumeUpdate(_ context.Context, r *request) (response, error) {
	if _, err := s.engine.Volumes.Inspect(r.ref()); err != nil {
		return nil, err
	}
	return nil, fault.Unavailable("volume update only valid for cluster volumes, but swarm is unavailable")
}

// volumeRemove serves DELETE /volumes/{ref}.
func (s *Server) volumeRemove(ctx context.Context, r *request) (response, error) {
	return noContent, s.engine.Volumes.Remove(ctx, r.ref(), r.flag("force"))
}

// volumePrune serves POST /volumes/prune. Before 1.42 it removed named
// volumes too.
func (s *Server) volumePrune(ctx context.Context, r *request) (response, error) {
	f, err := r.filters(volumes.PruneFilters...)
	if err != nil {
		return nil, err
	}
	if !r.since("1.42") {
		if f == nil {
			f = filter.Args{}
		}
		f["all"] = []string{"true"}
	}
	report, err := s.engine.Volumes.Prune(ctx, f)
	if err != nil {
		return nil, err
	}
	return ok(report), nil
}
