package apiserver

import (
	"context"

	types "github.com/moby/moby/api/types/container"

	"github.com/kelp-engine/kelp/engine/container"
)

var containerReadRoutes = []route{
	{"GET", "/containers/json", (*Server).containerList},
	{"GET", "/containers/{ref}/json", (*Server).containerInspect},
	{"GET", "/containers/{ref}/top", (*Server).containerTop},
	{"GET", "/containers/{ref}/changes", (*Server).containerChanges},
	{"POST", "/containers/{ref}/rename", (*Server).containerRename},
	{"POST", "/containers/{ref}/update", (*Server).containerUpdate},
	{"POST", "/containers/prune", (*Server).containerPrune},
}

// containerList serves GET /containers/json.
func (s *Server) containerList(ctx context.Context, r *request) (response, error) {
	f, err := r.filters(container.FilterKeys...)
	if err != nil {
		return nil, err
	}
	limit, err := r.int("limit", 0)
	if err != nil {
		return nil, err
	}
	rows, err := s.engine.Containers.List(ctx, container.ListOptions{
		All: r.flag("all"), Limit: limit, Size: r.flag("size"), Filter: f,
	})
	if err != nil {
		return nil, err
	}
	return ok(containersFor(r, rows)), nil
}

// containerInspect serves GET /containers/{ref}/json.
func (s *Server) containerInspect(_ context.Context, r *request) (response, error) {
	i, err := s.engine.Containers.Inspect(r.ref(), r.flag("size"))
	if err != nil {
		return nil, err
	}
	return ok(inspectFor(r, i)), nil
}

// containerTop serves GET /containers/{ref}/top.
func (s *Server) containerTop(ctx context.Context, r *request) (response, error) {
	top, err := s.engine.Containers.Top(ctx, r.ref(), r.query("ps_args"))
	if err != nil {
		return nil, err
	}
	return ok(top), nil
}

// containerChanges serves GET /containers/{ref}/changes.
func (s *Server) containerChanges(_ context.Context, r *request) (response, error) {
	changes, err := s.engine.Containers.Changes(r.ref())
	if err != nil {
		return nil, err
	}
	return ok(changes), nil
}

// containerRename serves POST /containers/{ref}/rename.
func (s *Server) containerRename(ctx context.Context, r *request) (response, error) {
	return noContent, s.engine.Containers.Rename(ctx, r.ref(), r.query("name"))
}

// containerUpdate serves POST /containers/{ref}/update.
func (s *Server) containerUpdate(ctx context.Context, r *request) (response, error) {
	var u types.UpdateConfig
	if err := r.decode(&u); err != nil {
		return nil, err
	}
	downgradeUpdate(r, &u.Resources)
	warnings, err := s.engine.Containers.Update(ctx, r.ref(), u)
	if err != nil {
		return nil, err
	}
	return ok(types.UpdateResponse{Warnings: append([]string{}, warnings...)}), nil
}

// containerPrune serves POST /containers/prune.
func (s *Server) containerPrune(ctx context.Context, r *request) (response, error) {
	f, err := r.filters(container.PruneKeys...)
	if err != nil {
		return nil, err
	}
	report, err := s.engine.Containers.Prune(ctx, f)
	if err != nil {
		return nil, err
	}
	return ok(report), nil
}
