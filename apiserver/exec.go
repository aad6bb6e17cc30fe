package apiserver

import (
	"context"
	"net/http"

	types "github.com/moby/moby/api/types/container"

	"github.com/kelp-engine/kelp/apiserver/stream"
	"github.com/kelp-engine/kelp/engine/exec"
	"github.com/kelp-engine/kelp/engine/fault"
)

var execRoutes = []route{
	{"POST", "/containers/{ref}/exec", (*Server).execCreate},
	{"POST", "/exec/{ref}/start", (*Server).execStart},
	{"POST", "/exec/{ref}/resize", (*Server).execResize},
	{"GET", "/exec/{ref}/json", (*Server).execInspect},
}

// execCreate serves POST /containers/{ref}/exec.
func (s *Server) execCreate(_ context.Context, r *request) (response, error) {
	var req types.ExecCreateRequest
	if err := r.decode(&req); err != nil {
		return nil, err
	}
	if !r.since("1.42") {
		req.ConsoleSize = nil
	}
	keys, err := detachKeys(req.DetachKeys)
	if err != nil {
		return nil, err
	}
	id, err := s.engine.Execs.Create(r.ref(), req, keys)
	if err != nil {
		return nil, err
	}
	return created(types.ExecCreateResponse{ID: id}), nil
}

// execStart serves POST /exec/{ref}/start: detached, or on the connection
// itself, where errors of the process are told as output, as Docker does.
func (s *Server) execStart(ctx context.Context, r *request) (response, error) {
	var req types.ExecStartRequest
	if _, err := r.decodeOptional(&req); err != nil {
		return nil, err
	}
	if !r.since("1.42") {
		req.ConsoleSize = nil
	}
	if req.ConsoleSize != nil && !req.Tty {
		return nil, fault.InvalidArgument("console size is only supported when TTY is enabled")
	}
	start, err := s.engine.Execs.Begin(r.ref(), req)
	if err != nil {
		return nil, err
	}
	if req.Detach {
		if err := start.Run(ctx, nil, false, nil); err != nil {
			return nil, err
		}
		return statusResponse(http.StatusOK), nil
	}
	return responseFunc(func(w http.ResponseWriter, hr *http.Request) error {
		return runAttached(w, hr, start, !req.Tty, r.since("1.42"))
	}), nil
}

// runAttached hands the client's connection to the exec's process.
func runAttached(w http.ResponseWriter, r *http.Request, start *exec.Start, mux, since142 bool) error {
	conn, err := hijack(w, r, mux, since142)
	if err != nil {
		start.Abort()
		return err
	}
	defer conn.Close()
	if err := start.Run(r.Context(), conn.File, mux, conn.Buffered); err != nil {
		message := []byte(err.Error() + "\r\n")
		if mux {
			message = stream.AppendFrame(nil, stream.Stdout, message)
		}
		_, _ = conn.conn.Write(message)
		return errStarted{err}
	}
	return nil
}

// execResize serves POST /exec/{ref}/resize.
func (s *Server) execResize(ctx context.Context, r *request) (response, error) {
	height, width, err := r.size()
	if err != nil {
		return nil, err
	}
	return statusResponse(http.StatusOK), s.engine.Execs.Resize(ctx, r.ref(), height, width)
}

// execInspect serves GET /exec/{ref}/json.
func (s *Server) execInspect(ctx context.Context, r *request) (response, error) {
	x, err := s.engine.Execs.Inspect(ctx, r.ref())
	if err != nil {
		return nil, err
	}
	return ok(x), nil
}
