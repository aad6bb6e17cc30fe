// Package apiserver serves the Docker Engine API: it decodes a request, makes
// one call of the engine and encodes the answer.
//
// It holds no state of its own and makes no decision about containers.
package apiserver

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"strings"
	"time"

	"github.com/gorilla/mux"

	"github.com/kelp-engine/kelp/engine"
	"github.com/kelp-engine/kelp/engine/fault"
	"github.com/kelp-engine/kelp/userns/rundir"
)

// API versions, as in the path /v1.NN. Clients negotiate one of this range.
const (
	MinAPIVersion = "1.24"
	MaxAPIVersion = "1.56" // that of github.com/moby/moby/api
)

// Server answers Engine API requests from an engine.
type Server struct {
	engine *engine.Engine
	http   *http.Server
}

// New returns a server of e. Serve starts it.
func New(e *engine.Engine) *Server {
	s := &Server{engine: e}
	s.http = &http.Server{
		Handler:           ownersOnly(s.handler()),
		ConnContext:       knowPeer,
		ReadHeaderTimeout: time.Minute,
		ErrorLog:          slog.NewLogLogger(slog.Default().Handler(), slog.LevelDebug),
	}
	return s
}

// Serve answers the clients of l, admitting only the user that kelp belongs
// to, until Shutdown.
func (s *Server) Serve(l net.Listener) error {
	if err := s.http.Serve(l); err != http.ErrServerClosed {
		return err
	}
	return nil
}

// Shutdown stops accepting and waits for requests under way until ctx ends;
// hijacked connections are not waited for.
func (s *Server) Shutdown(ctx context.Context) error {
	err := s.http.Shutdown(ctx)
	if err != nil {
		s.http.Close()
	}
	return err
}

// linkable is the variable {ref} of containers, which the names of links mean,
// too: CONTAINER/ALIAS.
const linkable = "/containers/{ref:[^/]+(?:/[^/]+)?}"

// handler routes every row of routes, with and without a version prefix.
func (s *Server) handler() http.Handler {
	m := mux.NewRouter()
	m.UseEncodedPath().SkipClean(true)
	for _, r := range routes() {
		h, path := s.serve(r), strings.Replace(r.path, "/containers/{ref}", linkable, 1)
		m.Methods(r.method).Path("/v{version:[0-9]+[.][0-9]+}" + path).Handler(h)
		m.Methods(r.method).Path(path).Handler(h)
	}
	m.NotFoundHandler = http.HandlerFunc(s.noRoute)
	m.MethodNotAllowedHandler = m.NotFoundHandler
	return m
}

// strangerKey is that of a context whose connection is another user's.
type strangerKey struct{}

// knowPeer is the server's ConnContext. What cannot tell whose it is counts as
// another's: a socket unit of systemd may name a port.
func knowPeer(ctx context.Context, conn net.Conn) context.Context {
	if u, ok := conn.(*net.UnixConn); ok && rundir.PeerIsOwner(u) {
		return ctx
	}
	return context.WithValue(ctx, strangerKey{}, conn.RemoteAddr())
}

// ownersOnly refuses the requests of other users. The unix socket's mode keeps
// them out already, but not root of a container that is given the socket and
// has a user namespace of its own; and this holds should the mode be changed.
func ownersOnly(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		from := r.Context().Value(strangerKey{})
		if from == nil {
			next.ServeHTTP(w, r)
			return
		}
		slog.Warn("refused a request on the API socket that is not known to be its user's", "from", from)
		writeError(w, r, fault.PermissionDenied("this kelp serves the user that it belongs to, and nobody else").
			WithHint("in a container with the userns mode keep-id root is another user: run the client as the container's default user"))
	})
}

// setHeaders sets the headers that every answer carries, as the Engine API reference says of /_ping.
func setHeaders(h http.Header) {
	h.Set("Api-Version", MaxAPIVersion)
	h.Set("Docker-Experimental", "false")
	h.Set("Ostype", runtime.GOOS)
	h.Set("Server", "kelp/"+engine.Version()+" ("+runtime.GOOS+")")
}
