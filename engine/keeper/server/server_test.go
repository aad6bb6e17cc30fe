package server

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/kelp-engine/kelp/engine/keeper"
	"github.com/kelp-engine/kelp/userns/rundir"
)

// TestSilentClient sees a keeper end although a client that it has accepted
// never says what it wants.
func TestSilentClient(t *testing.T) {
	dir, err := os.MkdirTemp("", "k") // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	l, err := listenKeeper(dir)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	s := newServer(keeper.Config{}, &supervisor{}, newTasks(nil), stop)
	served := make(chan error, 1)
	go func() { served <- s.serve(ctx, l) }()

	silent, err := net.Dial("unix", filepath.Join(dir, rundir.KeeperSocket))
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	// Calls are accepted in their order: after this one the silent one was.
	if _, err := keeper.NewClient(dir).Hello(t.Context()); err != nil {
		t.Fatal(err)
	}
	stop()
	select {
	case err := <-served:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("the keeper waits for a client that says nothing")
	}
}
