package apiserver

import (
	"context"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/kelp-engine/kelp/engine/fault"
	"github.com/kelp-engine/kelp/image"
	"github.com/kelp-engine/kelp/image/transfer"
)

// An image's reference may have slashes.
var imageRoutes = []route{
	{"GET", "/images/json", (*Server).imageList},
	{"POST", "/images/prune", (*Server).imagePrune},
	{"GET", "/images/{ref:.+}/json", (*Server).imageInspect},
	{"GET", "/images/{ref:.+}/history", (*Server).imageHistory},
	{"GET", "/images/{ref:.+}/attestations", (*Server).imageAttestations},
	{"POST", "/images/{ref:.+}/tag", (*Server).imageTag},
	{"DELETE", "/images/{ref:.+}", (*Server).imageRemove},
}

// imageList serves GET /images/json.
func (s *Server) imageList(ctx context.Context, r *request) (response, error) {
	f, err := r.filters(image.ListFilters...)
	if err != nil {
		return nil, err
	}
	if name := r.query("filter"); name != "" && !r.since("1.41") {
		f["reference"] = append(f["reference"], name)
	}
	list, err := s.engine.Images.List(ctx, image.ListOptions{
		All: r.flag("all"), Filters: f, SharedSize: r.since("1.42") && r.flag("shared-size"), Containers: r.since("1.51"),
	})
	if err != nil {
		return nil, err
	}
	return ok(imagesFor(r, list)), nil
}

// imageInspect serves GET /images/{name}/json.
func (s *Server) imageInspect(ctx context.Context, r *request) (response, error) {
	want, err := onePlatform(r)
	if err != nil {
		return nil, err
	}
	if want != nil && r.flag("manifests") {
		return nil, fault.InvalidArgument("conflicting options: manifests and platform options cannot both be set")
	}
	im, err := s.engine.Images.Inspect(ctx, r.ref())
	if err != nil {
		return nil, err
	}
	if err := checkPlatform(r.ref(), ocispec.Platform{OS: im.Os, Architecture: im.Architecture, Variant: im.Variant}, want); err != nil {
		return nil, err
	}
	if r.since("1.52") {
		return ok(im), nil
	}
	made, err := s.engine.Images.Resolve(ctx, im.ID)
	if err != nil {
		return nil, err
	}
	return ok(imageFor(r, im, made)), nil
}

// imageHistory serves GET /images/{name}/history.
func (s *Server) imageHistory(ctx context.Context, r *request) (response, error) {
	want, err := onePlatform(r)
	if err != nil {
		return nil, err
	}
	if want != nil {
		im, err := s.engine.Images.Resolve(ctx, r.ref())
		if err != nil {
			return nil, err
		}
		if err := checkPlatform(r.ref(), im.Platform, want); err != nil {
			return nil, err
		}
	}
	h, err := s.engine.Images.History(ctx, r.ref())
	if err != nil {
		return nil, err
	}
	return ok(h), nil
}

// imageAttestations serves GET /images/{name}/attestations: as an engine whose
// image store does not keep them.
func (s *Server) imageAttestations(ctx context.Context, r *request) (response, error) {
	want, err := onePlatform(r)
	if err != nil {
		return nil, err
	}
	im, err := s.engine.Images.Resolve(ctx, r.ref())
	if err != nil {
		return nil, err
	}
	if err := checkPlatform(r.ref(), im.Platform, want); err != nil {
		return nil, err
	}
	return nil, fault.NotImplemented("image attestations are not supported by the image store")
}

// imageTag serves POST /images/{name}/tag.
func (s *Server) imageTag(ctx context.Context, r *request) (response, error) {
	if err := s.engine.Images.Tag(ctx, r.ref(), joinTag(r.query("repo"), r.query("tag"))); err != nil {
		return nil, err
	}
	return statusResponse(201), nil
}

// imageRemove serves DELETE /images/{name}.
func (s *Server) imageRemove(ctx context.Context, r *request) (response, error) {
	want, err := platforms(r, "platforms")
	if err != nil {
		return nil, err
	}
	for _, p := range want { // an image here has one platform
		im, err := s.engine.Images.Resolve(ctx, r.ref())
		if err != nil {
			return nil, err
		}
		if err := checkPlatform(r.ref(), im.Platform, &p); err != nil {
			return nil, err
		}
	}
	report, err := s.engine.Images.Remove(ctx, r.ref(), image.RemoveOptions{Force: r.flag("force"), NoPrune: r.flag("noprune")})
	if err != nil {
		return nil, err
	}
	return ok(report), nil
}

// imagePrune serves POST /images/prune.
func (s *Server) imagePrune(ctx context.Context, r *request) (response, error) {
	f, err := r.filters(image.PruneFilters...)
	if err != nil {
		return nil, err
	}
	report, err := s.engine.Images.Prune(ctx, f)
	if err != nil {
		return nil, err
	}
	return ok(report), nil
}

// joinTag makes a reference of a repository and a tag or digest.
func joinTag(repo, tag string) string {
	switch {
	case repo == "" || tag == "":
		return repo
	case isDigest(tag):
		return repo + "@" + tag
	default:
		return repo + ":" + tag
	}
}

// onePlatform reads the parameter platform; nil means none.
func onePlatform(r *request) (*ocispec.Platform, error) {
	list, err := platforms(r, "platform")
	if err != nil || len(list) == 0 {
		return nil, err
	}
	if len(list) > 1 {
		return nil, fault.InvalidArgument("only one platform may be given")
	}
	return &list[0], nil
}

// platforms reads a parameter that may be there several times.
func platforms(r *request, name string) ([]ocispec.Platform, error) {
	var list []ocispec.Platform
	for _, text := range r.values[name] {
		p, err := transfer.ParsePlatform(text)
		if err != nil {
			return nil, err
		}
		if p != nil {
			list = append(list, *p)
		}
	}
	return list, nil
}

// checkPlatform refuses an image for another platform than the wanted one.
func checkPlatform(ref string, have ocispec.Platform, want *ocispec.Platform) error {
	if want == nil || transfer.MatchesPlatform(have, *want) {
		return nil
	}
	return fault.NotFound("image with reference %s was found but its platform (%s) does not match the specified platform (%s)",
		ref, transfer.PlatformText(have), transfer.PlatformText(*want))
}
