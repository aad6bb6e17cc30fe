package apiserver

import (
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"sync"

	"github.com/moby/term"
	"golang.org/x/net/websocket"
	"golang.org/x/sys/unix"

	"github.com/kelp-engine/kelp/engine/attach"
	"github.com/kelp-engine/kelp/engine/fault"
	"github.com/kelp-engine/kelp/engine/spec"
)

var attachRoutes = []route{
	{"POST", "/containers/{ref}/attach", (*Server).containerAttach},
	{"GET", "/containers/{ref}/attach/ws", (*Server).containerAttachWS},
	{"POST", "/containers/{ref}/resize", (*Server).containerResize},
}

// defaultDetachKeys are ctrl-p ctrl-q.
var defaultDetachKeys = []byte{16, 17}

// detachKeys reads keys as in "ctrl-p,ctrl-q".
func detachKeys(text string) ([]byte, error) {
	if text == "" {
		return defaultDetachKeys, nil
	}
	keys, err := term.ToBytes(text)
	if err != nil {
		return nil, fault.InvalidArgument("Invalid detach keys (%s) provided", text).
			WithHint("name keys as in 'ctrl-p,ctrl-q'")
	}
	return keys, nil
}

// size reads the parameters of a resize.
func (r *request) size() (height, width uint16, err error) {
	for name, n := range map[string]*uint16{"h": &height, "w": &width} {
		v, err := r.int(name, -1)
		if err != nil || v < 0 || v > spec.MaxConsole {
			return 0, 0, fault.InvalidArgument("invalid resize %s %q: it must be a number from 0 to %d", name, r.query(name), spec.MaxConsole)
		}
		*n = uint16(v)
	}
	return height, width, nil
}

// containerResize serves POST /containers/{ref}/resize.
func (s *Server) containerResize(ctx context.Context, r *request) (response, error) {
	height, width, err := r.size()
	if err != nil {
		return nil, err
	}
	return statusResponse(http.StatusOK), s.engine.Attach.Resize(ctx, r.ref(), height, width)
}

// prepareAttach reads and checks what POST attach and the websocket have in
// common.
func (s *Server) prepareAttach(r *request) (*attach.Attachment, attach.Options, error) {
	keys, err := detachKeys(r.query("detachKeys"))
	if err != nil {
		return nil, attach.Options{}, err
	}
	o := attach.Options{Stdin: r.flag("stdin"), Stdout: r.flag("stdout"), Stderr: r.flag("stderr"), DetachKeys: keys}
	a, err := s.engine.Attach.Prepare(r.ref(), o)
	return a, o, err
}

// containerAttach serves POST /containers/{ref}/attach: with logs what was
// written before, with stream what is written from then on.
func (s *Server) containerAttach(ctx context.Context, r *request) (response, error) {
	a, o, err := s.prepareAttach(r)
	if err != nil {
		return nil, err
	}
	var past *pastLog
	if r.flag("logs") {
		if past, err = s.pastLog(a.ID(), o); err != nil {
			return nil, err
		}
	}
	return responseFunc(func(w http.ResponseWriter, hr *http.Request) error {
		if past == nil { // else it is for the client to read that first
			defer a.Begin()()
		}
		mux := !a.TTY()
		conn, err := hijack(w, hr, mux, r.since("1.42"))
		if err != nil {
			return err
		}
		defer conn.Close()
		if err := past.write(ctx, conn.conn, mux); err != nil {
			return errStarted{err}
		}
		if !r.flag("stream") {
			a.Tell()
			return nil
		}
		if err := a.Connect(ctx, conn.File, mux, conn.Buffered); err != nil {
			return errStarted{err}
		}
		return nil
	}), nil
}

// containerAttachWS serves GET /containers/{ref}/attach/ws: as containerAttach,
// over a websocket and never framed. The engine copies between the websocket
// and a socket that the keeper has the other end of.
func (s *Server) containerAttachWS(ctx context.Context, r *request) (response, error) {
	if !r.since("1.42") { // they always attached to all streams
		for _, name := range []string{"stdin", "stdout", "stderr"} {
			r.values.Set(name, "1")
		}
	}
	a, o, err := s.prepareAttach(r)
	if err != nil {
		return nil, err
	}
	var past *pastLog
	if r.flag("logs") {
		if past, err = s.pastLog(a.ID(), o); err != nil {
			return nil, err
		}
	}
	mine, its, err := socketPair()
	if err != nil {
		return nil, err
	}
	return responseFunc(func(w http.ResponseWriter, hr *http.Request) error {
		defer mine.Close()
		defer its.Close()
		var failed error
		connected := func() {}
		if past == nil {
			connected = sync.OnceFunc(a.Begin())
			defer connected()
		}
		server := websocket.Server{Handler: func(ws *websocket.Conn) {
			ws.PayloadType = websocket.BinaryFrame
			if !r.since("1.28") {
				ws.PayloadType = websocket.TextFrame
			}
			if failed = past.write(ctx, ws, false); failed != nil {
				return
			}
			if !r.flag("stream") {
				a.Tell()
				return
			}
			failed = a.Connect(ctx, its, false, nil)
			connected()
			if failed != nil {
				return
			}
			its.Close()
			failed = pipe(ws, mine)
		}}
		server.ServeHTTP(w, hr)
		if failed != nil {
			return errStarted{failed}
		}
		return nil
	}), nil
}

// pipe copies between a websocket and the keeper's socket until the keeper
// closes that; input that ends is passed on.
func pipe(ws *websocket.Conn, conn *net.UnixConn) error {
	input := make(chan struct{})
	go func() {
		defer close(input)
		_, _ = io.Copy(conn, ws)
		_ = conn.CloseWrite()
	}()
	_, err := io.Copy(ws, conn)
	ws.Close()
	<-input
	return err
}

// socketPair returns a connected pair: one end to use, one to hand on.
func socketPair() (*net.UnixConn, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, nil, fault.Internal("cannot make a pair of sockets: %w", err)
	}
	mine, its := os.NewFile(uintptr(fds[0]), "attach"), os.NewFile(uintptr(fds[1]), "attach-keeper")
	defer mine.Close()
	conn, err := net.FileConn(mine)
	if err != nil {
		its.Close()
		return nil, nil, fault.Internal("cannot use a pair of sockets: %w", err)
	}
	return conn.(*net.UnixConn), its, nil
}
