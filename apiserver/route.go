package apiserver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"runtime/debug"
	"slices"

	"github.com/containerd/errdefs/pkg/errhttp"
	"github.com/gorilla/mux"
	"github.com/moby/moby/api/types/common"

	"github.com/kelp-engine/kelp/engine/fault"
)

// route is one endpoint: a row of the table.
type route struct {
	method string
	path   string // of gorilla/mux, without the version prefix
	handle func(*Server, context.Context, *request) (response, error)
}

// routes lists every endpoint; each resource has its table beside its handlers.
func routes() []route {
	return slices.Concat(
		systemRoutes,
		networkRoutes,
		volumeRoutes,
		containerRoutes,
		attachRoutes,
		eventRoutes,
		statsRoutes,
		absentRoutes,
		execRoutes,
		logRoutes,
		containerReadRoutes,
		imageRoutes,
		imageArchiveRoutes,
		registryRoutes,
		archiveRoutes,
		commitRoutes,
	)
}

// serve turns a row of the table into an HTTP handler.
func (s *Server) serve(rt route) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		setHeaders(w.Header())
		begun := false // perhaps
		defer func() {
			if p := recover(); p != nil {
				if p == http.ErrAbortHandler {
					panic(p)
				}
				slog.Error("a request panicked", "method", r.Method, "path", r.URL.Path, "panic", p, "stack", string(debug.Stack()))
				if begun {
					panic(http.ErrAbortHandler)
				}
				writeError(w, r, fault.Internal("kelp failed on this request (a bug): %v", p))
			}
		}()
		req, err := newRequest(r)
		if err != nil {
			writeError(w, r, err)
			return
		}
		resp, err := rt.handle(s, r.Context(), req)
		if err == nil {
			begun = true
			err = resp.write(w, r)
		}
		if err != nil {
			writeError(w, r, err)
		}
	}
}

func (s *Server) noRoute(w http.ResponseWriter, r *http.Request) {
	setHeaders(w.Header())
	writeError(w, r, fault.NotFound("page not found"))
}

// errStarted wraps an error that comes after the answer has begun: the client
// learns of it by the connection being cut, and cannot take a part of the
// answer for all of it.
type errStarted struct{ error }

func (e errStarted) Unwrap() error { return e.error }

// writeError is the one place that answers with an error.
func writeError(w http.ResponseWriter, r *http.Request, err error) {
	if _, ok := errors.AsType[errStarted](err); ok {
		slog.Debug("an answer broke off", "method", r.Method, "path", r.URL.Path, "error", err)
		panic(http.ErrAbortHandler)
	}
	status := errhttp.ToHTTP(err)
	switch {
	case errors.Is(err, context.Canceled) && r.Context().Err() != nil:
		panic(http.ErrAbortHandler) // the client is gone; returning would say 200
	case status == http.StatusNotModified:
		w.WriteHeader(status)
		return
	case status >= 500 && status != http.StatusNotImplemented:
		slog.Error("a request failed", "method", r.Method, "path", r.URL.Path, "error", err)
	default:
		slog.Debug("a request was refused", "method", r.Method, "path", r.URL.Path, "status", status, "error", err)
	}
	_ = writeJSON(w, status, common.ErrorResponse{Message: err.Error()})
}

// pathVars are the variables of a route's path, percent-decoded.
func pathVars(r *http.Request) (map[string]string, error) {
	vars := mux.Vars(r)
	for k, v := range vars {
		d, err := url.PathUnescape(v)
		if err != nil {
			return nil, fault.InvalidArgument("cannot read the request's path: %w", err)
		}
		vars[k] = d
	}
	return vars, nil
}

// checkVersion refuses, in Docker's words, a version outside the range; "" is
// none.
func checkVersion(v string) error {
	if v == "" {
		return nil
	}
	if versionLess(v, MinAPIVersion) {
		return fault.InvalidArgument("client version %s is too old. Minimum supported API version is %s, please upgrade your client to a newer version", v, MinAPIVersion)
	}
	if versionLess(MaxAPIVersion, v) {
		return fault.InvalidArgument("client version %s is too new. Maximum supported API version is %s", v, MaxAPIVersion)
	}
	return nil
}

// versionLess compares versions of the form MAJOR.MINOR.
func versionLess(a, b string) bool {
	var a1, a2, b1, b2 int
	_, _ = fmt.Sscanf(a, "%d.%d", &a1, &a2)
	_, _ = fmt.Sscanf(b, "%d.%d", &b1, &b2)
	return a1 < b1 || a1 == b1 && a2 < b2
}
