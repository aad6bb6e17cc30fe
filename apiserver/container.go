package apiserver

import (
	"context"
	"fmt"
	"net/http"
	"runtime"

	types "github.com/moby/moby/api/types/container"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/kelp-engine/kelp/engine/container"
	"github.com/kelp-engine/kelp/image/transfer"
)

var containerRoutes = []route{
	{"POST", "/containers/create", (*Server).containerCreate},
	{"POST", "/containers/{ref}/start", (*Server).containerStart},
	{"POST", "/containers/{ref}/stop", (*Server).containerStop},
	{"POST", "/containers/{ref}/restart", (*Server).containerRestart},
	{"POST", "/containers/{ref}/kill", (*Server).containerKill},
	{"POST", "/containers/{ref}/pause", (*Server).containerPause},
	{"POST", "/containers/{ref}/unpause", (*Server).containerUnpause},
	{"POST", "/containers/{ref}/wait", (*Server).containerWait},
	{"DELETE", "/containers/{ref}", (*Server).containerRemove},
}

// containerCreate serves POST /containers/create.
func (s *Server) containerCreate(ctx context.Context, r *request) (response, error) {
	var req createRequest
	if err := r.decode(&req); err != nil {
		return nil, err
	}
	current, old, err := req.current(r)
	if err != nil {
		return nil, err
	}
	mismatch, err := s.checkCreatePlatform(ctx, r, current.Config)
	if err != nil {
		return nil, err
	}
	id, warnings, err := s.engine.Containers.Create(ctx, r.query("name"), current)
	if err != nil {
		return nil, err
	}
	all := append([]string{}, mismatch...) // never null
	return created(types.CreateResponse{ID: id, Warnings: append(append(all, old...), warnings...)}), nil
}

// checkCreatePlatform refuses an image for another platform than that of the
// query, upon which clients pull the right one. Without one in the query an
// image that is not for this machine is warned about.
func (s *Server) checkCreatePlatform(ctx context.Context, r *request, config *types.Config) (warnings []string, err error) {
	if config == nil {
		return nil, nil
	}
	var want *ocispec.Platform
	if r.since("1.41") {
		if want, err = onePlatform(r); err != nil {
			return nil, err
		}
	}
	im, err := s.engine.Images.Resolve(ctx, config.Image)
	if err != nil {
		return nil, err
	}
	if want != nil {
		return nil, checkPlatform(config.Image, im.Platform, want)
	}
	host := ocispec.Platform{OS: runtime.GOOS, Architecture: runtime.GOARCH}
	if im.Platform.Architecture == "" || transfer.MatchesPlatform(im.Platform, host) {
		return nil, nil
	}
	return []string{fmt.Sprintf("The requested image's platform (%s) does not match the detected host platform (%s) and no specific platform was requested",
		transfer.PlatformText(im.Platform), transfer.PlatformText(host))}, nil
}

// containerStart serves POST /containers/{ref}/start, after the client's own
// request to attach, which may still be under way.
func (s *Server) containerStart(ctx context.Context, r *request) (response, error) {
	if err := s.engine.Attach.Await(ctx, r.ref()); err != nil {
		return nil, err
	}
	return noContent, s.engine.Containers.Start(ctx, r.ref())
}

// stopOptions reads what stop and restart have in common.
func stopOptions(r *request) (container.StopOptions, error) {
	var o container.StopOptions
	if r.since("1.42") {
		o.Signal = r.query("signal")
	}
	if !r.has("t") {
		return o, nil
	}
	t, err := r.int("t", 0)
	o.Timeout = &t
	return o, err
}

// containerStop serves POST /containers/{ref}/stop.
func (s *Server) containerStop(ctx context.Context, r *request) (response, error) {
	o, err := stopOptions(r)
	if err != nil {
		return nil, err
	}
	return noContent, s.engine.Containers.Stop(ctx, r.ref(), o)
}

// containerRestart serves POST /containers/{ref}/restart.
func (s *Server) containerRestart(ctx context.Context, r *request) (response, error) {
	o, err := stopOptions(r)
	if err != nil {
		return nil, err
	}
	return noContent, s.engine.Containers.Restart(ctx, r.ref(), o)
}

// containerKill serves POST /containers/{ref}/kill.
func (s *Server) containerKill(ctx context.Context, r *request) (response, error) {
	return noContent, s.engine.Containers.Kill(ctx, r.ref(), r.query("signal"))
}

// containerPause serves POST /containers/{ref}/pause.
func (s *Server) containerPause(ctx context.Context, r *request) (response, error) {
	return noContent, s.engine.Containers.Pause(ctx, r.ref())
}

// containerUnpause serves POST /containers/{ref}/unpause.
func (s *Server) containerUnpause(ctx context.Context, r *request) (response, error) {
	return noContent, s.engine.Containers.Unpause(ctx, r.ref())
}

// containerRemove serves DELETE /containers/{ref}.
func (s *Server) containerRemove(ctx context.Context, r *request) (response, error) {
	return noContent, s.engine.Containers.Remove(ctx, r.ref(), container.RemoveOptions{
		Force:   r.flag("force"),
		Volumes: r.flag("v"),
		Link:    r.flag("link"),
	})
}

// containerWait serves POST /containers/{ref}/wait. From 1.30 on the header
// goes out before the wait, so that clients know it has begun.
func (s *Server) containerWait(_ context.Context, r *request) (response, error) {
	cond := types.WaitCondition(r.query("condition"))
	if !r.since("1.30") {
		cond = types.WaitConditionNotRunning
	}
	w, err := s.engine.Containers.Wait(r.ref(), cond)
	if err != nil {
		return nil, err
	}
	return responseFunc(func(rw http.ResponseWriter, hr *http.Request) error {
		rw.Header().Set("Content-Type", "application/json")
		if r.since("1.30") {
			rw.WriteHeader(http.StatusOK)
			if err := http.NewResponseController(rw).Flush(); err != nil {
				return errStarted{err}
			}
		}
		code, message, err := w.Result(hr.Context())
		if err != nil {
			return errStarted{err}
		}
		result := types.WaitResponse{StatusCode: int64(code)}
		if message != "" {
			result.Error = &types.WaitExitError{Message: message}
		}
		return encodeLine(rw, result)
	}), nil
}
