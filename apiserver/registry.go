package apiserver

import (
	"context"

	"github.com/moby/moby/api/pkg/authconfig"
	"github.com/moby/moby/api/types/registry"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/kelp-engine/kelp/engine/fault"
	"github.com/kelp-engine/kelp/image/transfer"
)

var registryRoutes = []route{
	{"POST", "/images/{ref:.+}/push", (*Server).imagePush},
	{"GET", "/images/search", (*Server).imageSearch},
	{"GET", "/distribution/{ref:.+}/json", (*Server).distributionInspect},
	{"POST", "/auth", (*Server).registryLogin},
}

// credentials reads the header X-Registry-Auth.
func credentials(r *request) (registry.AuthConfig, error) {
	a, err := authconfig.Decode(r.http.Header.Get(registry.AuthHeader))
	if err != nil {
		return registry.AuthConfig{}, fault.InvalidArgument("invalid X-Registry-Auth header: %w", err)
	}
	return *a, nil
}

// imagePull serves POST /images/create?fromImage=….
func (s *Server) imagePull(ctx context.Context, r *request, want *ocispec.Platform) (response, error) {
	auth, err := credentials(r)
	if err != nil {
		return nil, err
	}
	o := transfer.PullOptions{Reference: joinTag(r.query("fromImage"), r.query("tag")), Platform: want, Auth: auth}
	return progress(func(p transfer.Progress) error { return s.engine.Transfer.Pull(ctx, o, p) }), nil
}

// imagePush serves POST /images/{name}/push.
func (s *Server) imagePush(ctx context.Context, r *request) (response, error) {
	auth, err := credentials(r)
	if err != nil {
		return nil, err
	}
	want, err := onePlatform(r)
	if err != nil {
		return nil, err
	}
	o := transfer.PushOptions{Reference: joinTag(r.ref(), r.query("tag")), Platform: want, Auth: auth}
	return progress(func(p transfer.Progress) error { return s.engine.Transfer.Push(ctx, o, p) }), nil
}

// imageSearch serves GET /images/search.
func (s *Server) imageSearch(ctx context.Context, r *request) (response, error) {
	auth, err := credentials(r)
	if err != nil {
		return nil, err
	}
	limit, err := r.int("limit", 25)
	if err != nil {
		return nil, err
	}
	f, err := r.filters(transfer.SearchFilters...)
	if err != nil {
		return nil, err
	}
	results, err := s.engine.Transfer.Search(ctx, transfer.SearchOptions{Term: r.query("term"), Limit: limit, Filters: f, Auth: auth})
	if err != nil {
		return nil, err
	}
	return ok(results), nil
}

// distributionInspect serves GET /distribution/{name}/json.
func (s *Server) distributionInspect(ctx context.Context, r *request) (response, error) {
	auth, err := credentials(r)
	if err != nil {
		return nil, err
	}
	d, err := s.engine.Transfer.Inspect(ctx, r.ref(), auth)
	if err != nil {
		return nil, err
	}
	return ok(d), nil
}

// registryLogin serves POST /auth.
func (s *Server) registryLogin(ctx context.Context, r *request) (response, error) {
	var auth registry.AuthConfig
	if err := r.decode(&auth); err != nil {
		return nil, err
	}
	if err := s.engine.Transfer.Login(ctx, auth); err != nil {
		return nil, err
	}
	return ok(registry.AuthResponse{Status: "Login Succeeded"}), nil
}
