package apiserver

import (
	"context"

	"github.com/moby/moby/api/types/container"

	"github.com/kelp-engine/kelp/engine/fault"
	"github.com/kelp-engine/kelp/image"
)

// Containers that become images.
var commitRoutes = []route{
	{"POST", "/commit", (*Server).commit},
}

// commit serves POST /commit.
func (s *Server) commit(ctx context.Context, r *request) (response, error) {
	var config container.Config
	given, err := r.decodeOptional(&config)
	if err != nil {
		return nil, err
	}
	ref := r.query("container")
	if ref == "" {
		return nil, fault.InvalidArgument("no container to commit is named")
	}
	o := image.CommitOptions{
		Reference: joinTag(r.query("repo"), r.query("tag")),
		Author:    r.query("author"),
		Comment:   r.query("comment"),
		Changes:   r.values["changes"],
	}
	if given {
		o.Config = &config
	}
	id, err := s.engine.Commit(ctx, ref, o, r.flagOr("pause", true))
	if err != nil {
		return nil, err
	}
	return created(container.CommitResponse{ID: id}), nil
}
