package apiserver

import (
	"context"
	"net/http"
	"strings"

	"github.com/kelp-engine/kelp/engine/fault"
	"github.com/kelp-engine/kelp/image/transfer"
)

// Images that come from archives and become archives.
var imageArchiveRoutes = []route{
	{"GET", "/images/get", (*Server).imageSave},
	{"GET", "/images/{ref:.+}/get", (*Server).imageSave},
	{"POST", "/images/load", (*Server).imageLoad},
	{"POST", "/images/create", (*Server).imageCreate},
}

// imageSave serves GET /images/get and GET /images/{name}/get.
func (s *Server) imageSave(ctx context.Context, r *request) (response, error) {
	refs := r.values["names"]
	if r.ref() != "" {
		refs = []string{r.ref()}
	}
	want, err := platforms(r, "platform")
	if err != nil {
		return nil, err
	}
	a, err := s.engine.Transfer.Save(ctx, refs, want)
	if err != nil {
		return nil, err
	}
	return responseFunc(func(w http.ResponseWriter, _ *http.Request) error {
		w.Header().Set("Content-Type", "application/x-tar")
		w.WriteHeader(http.StatusOK)
		if err := a.Write(ctx, w); err != nil {
			return errStarted{err}
		}
		return nil
	}), nil
}

// imageLoad serves POST /images/load.
func (s *Server) imageLoad(ctx context.Context, r *request) (response, error) {
	want, err := platforms(r, "platform")
	if err != nil {
		return nil, err
	}
	return progress(func(p transfer.Progress) error {
		return s.engine.Transfer.Load(ctx, r.http.Body, transfer.LoadOptions{Quiet: r.flagOr("quiet", true), Platforms: want}, p)
	}), nil
}

// imageCreate serves POST /images/create: pull, or import.
func (s *Server) imageCreate(ctx context.Context, r *request) (response, error) {
	want, err := onePlatform(r)
	if err != nil {
		return nil, err
	}
	switch {
	case r.query("fromImage") != "" && r.query("fromSrc") != "":
		return nil, fault.InvalidArgument("fromImage and fromSrc cannot both be given")
	case r.query("fromImage") != "":
		return s.imagePull(ctx, r, want)
	case r.query("fromSrc") == "":
		return nil, fault.InvalidArgument("fromImage or fromSrc must be given")
	}
	o := transfer.ImportOptions{
		Reference: joinTag(r.query("repo"), r.query("tag")),
		Message:   r.query("message"),
		Changes:   r.values["changes"],
		Platform:  want,
		Size:      r.http.ContentLength,
		From:      r.query("fromSrc"),
	}
	if o.From == "-" {
		return progress(func(p transfer.Progress) error {
			return s.engine.Transfer.Import(ctx, r.http.Body, o, p)
		}), nil
	}
	return progress(func(p transfer.Progress) error { return s.engine.Transfer.ImportURL(ctx, o, p) }), nil
}

func isDigest(text string) bool { return strings.Contains(text, ":") }
