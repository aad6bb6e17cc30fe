package attach

import (
	"context"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
)

type oneContainer struct{}

func (oneContainer) LookupAttach(ref string) (Container, error) {
	return Container{ID: ref, State: container.StateCreated}, nil
}

func (oneContainer) PublishOf(string, events.Action, ...string) {}

// TestAStartWaitsForThePromised holds that Await returns no sooner than all
// clients of that container, and no other, are attached.
func TestAStartWaitsForThePromised(t *testing.T) {
	m := New(oneContainer{}, nil)
	if err := m.Await(t.Context(), "c1"); err != nil {
		t.Fatal(err)
	}
	a, err := m.Prepare("c1", Options{})
	if err != nil {
		t.Fatal(err)
	}
	first, second := a.Begin(), a.Begin()
	if err := m.Await(t.Context(), "other"); err != nil {
		t.Fatal(err)
	}
	returned := make(chan error, 1)
	go func() { returned <- m.Await(t.Context(), "c1") }()
	first()
	select {
	case <-returned:
		t.Fatal("one client is not attached yet")
	case <-time.After(20 * time.Millisecond):
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := m.Await(ctx, "c1"); err == nil {
		t.Error("a wait that was cancelled succeeded")
	}
	second()
	if err := <-returned; err != nil {
		t.Fatal(err)
	}
	if len(m.pending.of) != 0 {
		t.Error("something is left")
	}
}
