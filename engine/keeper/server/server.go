// Package server is the keeper: it owns container processes, their standard
// streams and logs and the network namespaces, and starts the engine again
// whenever it ends.
//
// It must not import storage, image, build or swarm code: it has to outlive
// the engine, so it stays small.
package server

import (
	"context"
	"encoding/json"
	"log/slog"
	"maps"
	"net"
	"os"
	"runtime"
	"sync"
	"time"

	"github.com/kelp-engine/kelp/engine/fault"
	"github.com/kelp-engine/kelp/engine/keeper"
	"github.com/kelp-engine/kelp/userns/rundir"
)

// op serves one operation of the protocol. What it returns is the answer.
type op func(ctx context.Context, c *call) (any, error)

// call is one request under way. ctx of the op ends when the client goes.
type call struct {
	body  json.RawMessage
	files []*os.File // closed after the op unless it takes them with takeFile
	conn  *net.UnixConn
	// reply goes with the op's result and is closed afterwards.
	reply []*os.File
}

// decode reads the request's body into v.
func (c *call) decode(v any) error {
	if err := json.Unmarshal(c.body, v); err != nil {
		return fault.InvalidArgument("cannot read the request: %w", err)
	}
	return nil
}

// takeFile hands over the first file that came with the request, or nil.
func (c *call) takeFile() *os.File {
	if len(c.files) == 0 {
		return nil
	}
	f := c.files[0]
	c.files = c.files[1:]
	return f
}

// send gives the client one answer of several; the op's result is the last.
func (c *call) send(v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return keeper.WriteMessage(c.conn, keeper.Response{Body: body, More: true})
}

// Server is the keeper's state.
type Server struct {
	cfg     keeper.Config
	started time.Time
	ops     map[string]op
	engine  *supervisor
	tasks   *tasks
	nets    *networks
	stop    context.CancelFunc
	calls   sync.WaitGroup
}

func newServer(cfg keeper.Config, engine *supervisor, tasks *tasks, stop context.CancelFunc) *Server {
	s := &Server{cfg: cfg, started: time.Now(), engine: engine, tasks: tasks, nets: newNetworks(), stop: stop}
	tasks.nets = s.nets
	s.ops = map[string]op{
		"hello":          s.hello,
		"shutdown":       s.shutdown,
		"engine.wait":    s.waitEngine,
		"engine.restart": s.restartEngine,
	}
	maps.Copy(s.ops, tasks.ops())
	maps.Copy(s.ops, s.nets.ops())
	return s
}

func (s *Server) hello(context.Context, *call) (any, error) {
	h := keeper.Hello{
		Protocol:  keeper.Version,
		Version:   s.cfg.Version,
		PID:       os.Getpid(),
		Socket:    s.cfg.Socket,
		DataRoot:  s.cfg.DataRoot,
		StartedAt: s.started.UnixNano(),

		RuntimeDir: s.cfg.RuntimeDir,
		Goroutines: runtime.NumGoroutine(),
	}
	s.engine.describe(&h)
	return h, nil
}

func (s *Server) shutdown(_ context.Context, c *call) (any, error) {
	var r keeper.ShutdownRequest
	if err := c.decode(&r); err != nil {
		return nil, err
	}
	if r.Grace > 0 {
		s.engine.setGrace(r.Grace)
	}
	s.stop()
	return nil, nil
}

func (s *Server) waitEngine(ctx context.Context, _ *call) (any, error) {
	return nil, s.engine.wait(ctx)
}

func (s *Server) restartEngine(ctx context.Context, c *call) (any, error) {
	var r keeper.RestartRequest
	if err := c.decode(&r); err != nil {
		return nil, err
	}
	return nil, s.engine.restart(ctx, r)
}

// serve answers calls until ctx ends, and then waits for those under way.
func (s *Server) serve(ctx context.Context, l *net.UnixListener) error {
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	defer s.calls.Wait()
	for {
		conn, err := l.AcceptUnix()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			slog.Warn("cannot accept a call", "error", err)
			time.Sleep(100 * time.Millisecond) // out of file descriptors, most likely
			continue
		}
		s.calls.Go(func() {
			defer conn.Close()
			s.answer(ctx, conn)
		})
	}
}

// lastWord is how long clients that neither send nor read may hold up the
// keeper's end.
const lastWord = time.Second

// answer serves one connection: one request, one answer or more.
func (s *Server) answer(ctx context.Context, conn *net.UnixConn) {
	if !rundir.PeerIsOwner(conn) {
		return
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Now().Add(lastWord)) })
	defer stop()
	var req keeper.Request
	files, err := keeper.ReadMessage(conn, &req)
	c := &call{body: req.Body, files: files, conn: conn}
	defer func() {
		for _, f := range append(c.files, c.reply...) {
			f.Close()
		}
	}()
	if err != nil {
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { // the client sends nothing more: a read ends when it goes
		_, _ = conn.Read(make([]byte, 1))
		cancel()
	}()
	result, err := s.dispatch(ctx, req, c)
	var resp keeper.Response
	if err == nil {
		resp.Body, err = json.Marshal(result)
	}
	resp.Error = fault.ToWire(err)
	if err := keeper.WriteMessage(conn, resp, c.reply...); err != nil && ctx.Err() == nil {
		slog.Debug("cannot answer a call", "op", req.Op, "error", err)
	}
}

func (s *Server) dispatch(ctx context.Context, req keeper.Request, c *call) (any, error) {
	serve, ok := s.ops[req.Op]
	if !ok {
		return nil, fault.NotImplemented("this keeper (kelp %s) does not know the operation %q", s.cfg.Version, req.Op).
			WithHint("it is older than the engine: stop kelp when your containers can be stopped, then start it again")
	}
	if req.Files != len(c.files) {
		return nil, fault.InvalidArgument("%d files announced, %d received", req.Files, len(c.files))
	}
	leave, err := s.engine.enter(req.Engine)
	if err != nil {
		return nil, err
	}
	defer leave()
	return serve(ctx, c)
}
