package server

import (
	"context"

	"github.com/kelp-engine/kelp/engine/fault"
	"github.com/kelp-engine/kelp/engine/keeper"
	"github.com/kelp-engine/kelp/engine/keeper/stdio"
)

// newClient makes a client of the file that came with the call.
func newClient(call *call, req *keeper.AttachRequest) (*stdio.Client, error) {
	f := call.takeFile()
	if f == nil {
		return nil, fault.InvalidArgument("no connection came with the request to attach")
	}
	return stdio.NewClient(f, stdio.ClientOptions{
		Stdin: req.Stdin, Stdout: req.Stdout, Stderr: req.Stderr, Mux: req.Mux,
		DetachKeys: req.DetachKeys, Buffered: req.Buffered,
	})
}

// attach serves the operation of that name. The attachment goes on when the
// caller, the engine, dies.
func (t *tasks) attach(ctx context.Context, call *call) (any, error) {
	var req keeper.AttachRequest
	if err := call.decode(&req); err != nil {
		return nil, err
	}
	if req.Exec != "" {
		return nil, fault.InvalidArgument("a client is attached to an exec when it starts")
	}
	client, err := newClient(call, &req)
	if err != nil {
		return nil, err
	}
	t.attachClient(client, &req)
	go func() {
		<-client.Done()
		t.forgetClient(req.Container, client)
	}()
	if err := call.send(struct{}{}); err != nil {
		return nil, err
	}
	select {
	case <-client.Done():
		return keeper.AttachResult{Detached: client.Detached()}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
