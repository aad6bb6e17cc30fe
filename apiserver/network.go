package apiserver

import (
	"context"
	"net/http"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/network"

	"github.com/kelp-engine/kelp/engine/fault"
	networks "github.com/kelp-engine/kelp/engine/network"
)

var networkRoutes = []route{
	{"GET", "/networks", (*Server).networkList},
	{"GET", "/networks/", (*Server).networkList},
	{"POST", "/networks/create", (*Server).networkCreate},
	{"POST", "/networks/prune", (*Server).networkPrune},
	{"POST", "/networks/{ref}/connect", (*Server).networkConnect},
	{"POST", "/networks/{ref}/disconnect", (*Server).networkDisconnect},
	{"GET", "/networks/{ref}", (*Server).networkInspect},
	{"DELETE", "/networks/{ref}", (*Server).networkRemove},
}

// networkList serves GET /networks.
func (s *Server) networkList(_ context.Context, r *request) (response, error) {
	f, err := r.filters(networks.ListFilters...)
	if err != nil {
		return nil, err
	}
	list, err := s.engine.Networks.List(f)
	if err != nil {
		return nil, err
	}
	if r.since("1.28") {
		return ok(list), nil
	}
	return s.networksWithContainers(list)
}

// networksWithContainers answers a list as before 1.28, when it told what
// inspecting each network tells.
func (s *Server) networksWithContainers(list []network.Summary) (response, error) {
	old := []network.Inspect{}
	for _, n := range list {
		inspected, err := s.engine.Networks.Inspect(n.ID)
		if errdefs.IsNotFound(err) {
			continue // removed meanwhile
		}
		if err != nil {
			return nil, err
		}
		old = append(old, inspected)
	}
	return ok(old), nil
}

// networkCreate serves POST /networks/create.
func (s *Server) networkCreate(ctx context.Context, r *request) (response, error) {
	var req network.CreateRequest
	if err := r.decode(&req); err != nil {
		return nil, err
	}
	id, warnings, err := s.engine.Networks.Create(ctx, req)
	if err != nil {
		return nil, err
	}
	return created(network.CreateResponse{ID: id, Warning: strings.Join(warnings, "\n")}), nil
}

// networkInspect serves GET /networks/{ref}.
func (s *Server) networkInspect(_ context.Context, r *request) (response, error) {
	if scope := r.query("scope"); scope != "" && scope != "local" {
		return nil, fault.NotFound("network %s not found", r.ref())
	}
	n, err := s.engine.Networks.Inspect(r.ref())
	if err != nil {
		return nil, err
	}
	if !r.since("1.52") {
		n.Status = nil
	}
	return ok(n), nil
}

// networkRemove serves DELETE /networks/{ref}.
func (s *Server) networkRemove(ctx context.Context, r *request) (response, error) {
	return noContent, s.engine.Networks.Remove(ctx, r.ref())
}

// networkConnect serves POST /networks/{ref}/connect.
func (s *Server) networkConnect(ctx context.Context, r *request) (response, error) {
	var req network.ConnectRequest
	if err := r.decode(&req); err != nil {
		return nil, err
	}
	if err := s.engine.Networks.Connect(ctx, r.ref(), req); err != nil {
		return nil, err
	}
	return statusResponse(http.StatusOK), nil
}

// networkDisconnect serves POST /networks/{ref}/disconnect.
func (s *Server) networkDisconnect(ctx context.Context, r *request) (response, error) {
	var req network.DisconnectRequest
	if err := r.decode(&req); err != nil {
		return nil, err
	}
	if err := s.engine.Networks.Disconnect(ctx, r.ref(), req); err != nil {
		return nil, err
	}
	return statusResponse(http.StatusOK), nil
}

// networkPrune serves POST /networks/prune.
func (s *Server) networkPrune(ctx context.Context, r *request) (response, error) {
	f, err := r.filters(networks.PruneFilters...)
	if err != nil {
		return nil, err
	}
	report, err := s.engine.Networks.Prune(ctx, f)
	if err != nil {
		return nil, err
	}
	return ok(report), nil
}
