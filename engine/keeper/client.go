package keeper

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/kelp-engine/kelp/engine/fault"
	"github.com/kelp-engine/kelp/userns/rundir"
)

// Client calls a keeper. It has no state but the socket's path, so it works
// across the keeper's death and the next one's start.
type Client struct{ caller }

// caller makes calls, one connection each.
type caller struct {
	socket string
	engine int // the calling engine's number, 0 for other programs
}

// NewClient returns a client of the keeper in runtimeDir.
func NewClient(runtimeDir string) *Client {
	return &Client{caller{socket: filepath.Join(runtimeDir, rundir.KeeperSocket)}}
}

// NewEngineClient is NewClient for the engine that the calling process is.
func NewEngineClient(runtimeDir string) *Client {
	c := NewClient(runtimeDir)
	c.engine, _ = strconv.Atoi(os.Getenv(EngineNumberEnv)) // older keepers give none
	return c
}

// Hello asks the keeper who it is. No keeper is errdefs.ErrUnavailable.
func (c *Client) Hello(ctx context.Context) (Hello, error) {
	var h Hello
	err := c.call(ctx, "hello", nil, &h)
	return h, err
}

// WaitEngine returns when the engine answers API requests. An engine that
// ends before it does is an error that tells why.
func (c *Client) WaitEngine(ctx context.Context) error {
	return c.call(ctx, "engine.wait", nil, nil)
}

// ShutdownRequest says how to shut down.
type ShutdownRequest struct {
	// Grace is how long the engine may take to stop all containers before it
	// and they are killed; 0 leaves it to the keeper.
	Grace time.Duration `json:"grace,omitempty"`
}

// Shutdown ends all containers, the engine and the keeper. It returns when
// the keeper has agreed to; the keeper's process is gone when it is done.
func (c *Client) Shutdown(ctx context.Context, r ShutdownRequest) error {
	return c.call(ctx, "shutdown", r, nil)
}

// RestartRequest says what replaces the engine.
type RestartRequest struct {
	// Engine and EngineEnv are as in Config; without Engine both stay what
	// they are.
	Engine    []string `json:"engine,omitempty"`
	EngineEnv []string `json:"engine_env,omitempty"`
}

// RestartEngine replaces the engine process and returns when the new one
// answers API requests; containers run on. When it cannot, the error tells
// why, and the keeper goes back to the engine that it had before.
func (c *Client) RestartEngine(ctx context.Context, r RestartRequest) error {
	return c.call(ctx, "engine.restart", r, nil)
}

// call makes one request and decodes its answer into out unless that is nil.
func (c *caller) call(ctx context.Context, op string, in, out any, files ...*os.File) error {
	return c.stream(ctx, op, in, func(body json.RawMessage) error {
		if out == nil || len(body) == 0 {
			return nil
		}
		return json.Unmarshal(body, out)
	}, files...)
}

// stream makes one request and hands every answer to each, until the last
// one, an error, or the end of ctx.
func (c *caller) stream(ctx context.Context, op string, in any, each func(json.RawMessage) error, files ...*os.File) error {
	return c.exchange(ctx, op, in, func(body json.RawMessage, _ []*os.File) error { return each(body) }, files...)
}

// exchange is stream for answers with files, which are closed when each has
// returned.
func (c *caller) exchange(ctx context.Context, op string, in any, each func(json.RawMessage, []*os.File) error, files ...*os.File) error {
	conn, err := c.dial(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()

	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	if err := WriteMessage(conn, Request{Version: Version, Op: op, Body: body, Files: len(files), Engine: c.engine}, files...); err != nil {
		return c.broken(ctx, op, err)
	}
	for {
		var r Response
		got, err := ReadMessage(conn, &r)
		switch {
		case err != nil:
			err = c.broken(ctx, op, err)
		case r.Error != nil:
			err = r.Error.Err()
		default:
			err = each(r.Body, got)
		}
		for _, f := range got {
			f.Close()
		}
		if err != nil || !r.More {
			return err
		}
	}
}

func (c *caller) dial(ctx context.Context) (*net.UnixConn, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", c.socket)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, fault.Unavailable("cannot reach the keeper: %w", err)
	}
	return conn.(*net.UnixConn), nil
}

func (c *caller) broken(ctx context.Context, op string, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if _, ok := errors.AsType[*fault.Error](err); ok {
		return err
	}
	return fault.Unavailable("the keeper's answer to %s broke off: %w", op, err)
}
