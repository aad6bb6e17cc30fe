package apiserver

import (
	"context"
	"net/http"
	"time"

	"github.com/moby/moby/api/types"

	"github.com/kelp-engine/kelp/apiserver/stream"
	"github.com/kelp-engine/kelp/engine/events"
	"github.com/kelp-engine/kelp/engine/fault"
	"github.com/kelp-engine/kelp/engine/filter"
)

var eventRoutes = []route{
	{"GET", "/events", (*Server).events},
}

// events serves GET /events.
func (s *Server) events(_ context.Context, r *request) (response, error) {
	var q events.Query
	var err error
	if q.Since, err = r.time("since"); err != nil {
		return nil, err
	}
	if q.Until, err = r.time("until"); err != nil {
		return nil, err
	}
	if !q.Until.IsZero() && q.Until.Before(q.Since) {
		return nil, fault.InvalidArgument("`since` time (%s) cannot be after `until` time (%s)", r.query("since"), r.query("until"))
	}
	if q.Filter, err = r.filters(events.FilterKeys...); err != nil {
		return nil, err
	}
	media := types.MediaTypeJSON
	if r.since("1.52") {
		media = negotiate(r.http.Header, media, types.MediaTypeNDJSON, types.MediaTypeJSONSequence, types.MediaTypeJSONLines)
	}
	return responseFunc(func(w http.ResponseWriter, hr *http.Request) error {
		sub := s.engine.Events.Subscribe(q)
		defer sub.Close()
		w.Header().Set("Content-Type", media)
		w.WriteHeader(http.StatusOK)
		if err := http.NewResponseController(w).Flush(); err != nil {
			return errStarted{err}
		}
		out := stream.NewDocuments(newFlushed(w), media)
		for {
			m, more, err := sub.Next(hr.Context())
			if err != nil {
				return errStarted{err}
			}
			if !more {
				return nil
			}
			if err := out.Write(eventFor(r, m)); err != nil {
				return errStarted{err}
			}
		}
	}), nil
}

// time reads a point in time in seconds since 1970, with up to nine decimal
// places. Absent is the zero time.
func (r *request) time(name string) (time.Time, error) {
	if r.query(name) == "" {
		return time.Time{}, nil
	}
	t, err := filter.UnixTime(r.query(name))
	if err != nil {
		return t, fault.InvalidArgument("invalid value for %q: %q is no time in seconds since 1970", name, r.query(name))
	}
	return t, nil
}
