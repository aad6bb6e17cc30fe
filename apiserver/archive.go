package apiserver

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"log/slog"
	"net/http"

	types "github.com/moby/moby/api/types/container"

	"github.com/kelp-engine/kelp/engine/archive"
	"github.com/kelp-engine/kelp/engine/fault"
)

var archiveRoutes = []route{
	{"HEAD", "/containers/{ref}/archive", (*Server).archiveStat},
	{"GET", "/containers/{ref}/archive", (*Server).archiveGet},
	{"PUT", "/containers/{ref}/archive", (*Server).archivePut},
	{"GET", "/containers/{ref}/export", (*Server).containerExport},
}

// pathStatHeader tells what the file is that an archive is made of.
const pathStatHeader = "X-Docker-Container-Path-Stat"

func archivePath(r *request) (string, error) {
	p := r.query("path")
	if p == "" {
		return "", fault.InvalidArgument("bad parameter: 'path' cannot be empty")
	}
	return p, nil
}

func setPathStat(h http.Header, st types.PathStat) error {
	b, err := json.Marshal(st)
	if err != nil {
		return err
	}
	h.Set(pathStatHeader, base64.StdEncoding.EncodeToString(b))
	return nil
}

// archiveStat serves HEAD /containers/{ref}/archive.
func (s *Server) archiveStat(ctx context.Context, r *request) (response, error) {
	path, err := archivePath(r)
	if err != nil {
		return nil, err
	}
	st, err := s.engine.Archives.Stat(ctx, r.ref(), path)
	if err != nil {
		return nil, err
	}
	return responseFunc(func(w http.ResponseWriter, _ *http.Request) error {
		return setPathStat(w.Header(), st)
	}), nil
}

// archiveGet serves GET /containers/{ref}/archive.
func (s *Server) archiveGet(ctx context.Context, r *request) (response, error) {
	path, err := archivePath(r)
	if err != nil {
		return nil, err
	}
	st, write, err := s.engine.Archives.Get(ctx, r.ref(), path)
	if err != nil {
		return nil, err
	}
	return responseFunc(func(w http.ResponseWriter, hr *http.Request) error {
		if err := setPathStat(w.Header(), st); err != nil {
			return err
		}
		w.Header().Set("Content-Type", "application/x-tar")
		return cut(hr, write(hr.Context(), w))
	}), nil
}

// cut breaks the connection when an error comes in the middle of a stream:
// the client must not take what it has for the whole.
func cut(r *http.Request, err error) error {
	if err == nil {
		return nil
	}
	if r.Context().Err() == nil { // else the client is gone
		slog.Warn("an archive broke off", "path", r.URL.Path, "error", err)
	}
	panic(http.ErrAbortHandler)
}

// archivePut serves PUT /containers/{ref}/archive.
func (s *Server) archivePut(ctx context.Context, r *request) (response, error) {
	path, err := archivePath(r)
	if err != nil {
		return nil, err
	}
	return statusResponse(http.StatusOK), s.engine.Archives.Put(ctx, r.ref(), path, r.http.Body, archive.PutOptions{
		KeepTypes: r.flag("noOverwriteDirNonDir"),
		ToUser:    r.flag("copyUIDGID"),
	})
}

// containerExport serves GET /containers/{ref}/export.
func (s *Server) containerExport(_ context.Context, r *request) (response, error) {
	write, err := s.engine.Archives.Export(r.ref())
	if err != nil {
		return nil, err
	}
	return responseFunc(func(w http.ResponseWriter, hr *http.Request) error {
		w.Header().Set("Content-Type", "application/octet-stream")
		return cut(hr, write(hr.Context(), w))
	}), nil
}
