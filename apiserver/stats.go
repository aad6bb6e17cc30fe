package apiserver

import (
	"context"
	"net/http"

	"github.com/moby/moby/api/types"
	"github.com/moby/moby/api/types/container"

	"github.com/kelp-engine/kelp/apiserver/stream"
)

var statsRoutes = []route{
	{"GET", "/containers/{ref}/stats", (*Server).containerStats},
}

// containerStats serves GET /containers/{ref}/stats: a sample a second, or one.
func (s *Server) containerStats(ctx context.Context, r *request) (response, error) {
	if !r.flagOr("stream", true) {
		sample, err := s.engine.Stats.Once(ctx, r.ref(), !(r.since("1.41") && r.flag("one-shot")))
		if err != nil {
			return nil, err
		}
		return ok(statsFor(r, sample)), nil
	}
	if _, err := s.engine.Containers.Find(r.ref()); err != nil {
		return nil, err
	}
	return responseFunc(func(w http.ResponseWriter, hr *http.Request) error {
		w.Header().Set("Content-Type", types.MediaTypeJSON)
		w.WriteHeader(http.StatusOK)
		out := stream.NewDocuments(newFlushed(w), types.MediaTypeJSON)
		err := s.engine.Stats.Watch(hr.Context(), r.ref(), func(sample container.StatsResponse) error {
			return out.Write(statsFor(r, sample))
		})
		if err != nil {
			return errStarted{err}
		}
		return nil
	}), nil
}
