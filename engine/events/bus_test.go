package events

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/moby/moby/api/types/events"

	"github.com/kelp-engine/kelp/engine/filter"
)

// drain returns the ids of the events up to the query's Until, which must be past.
func drain(t *testing.T, s *Subscription) []string {
	t.Helper()
	defer s.Close()
	var ids []string
	for {
		m, more, err := s.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if !more {
			return ids
		}
		ids = append(ids, m.Actor.ID)
	}
}

func TestReplay(t *testing.T) {
	b := NewBus()
	for i := range kept + 3 {
		b.Publish(events.ContainerEventType, events.ActionStart, fmt.Sprint(i), nil)
	}
	now := time.Now()
	if got := drain(t, b.Subscribe(Query{Since: time.Unix(1, 0), Until: now})); len(got) != kept || got[0] != "3" || got[kept-1] != fmt.Sprint(kept+2) {
		t.Errorf("replay of everything: %d events, %v", len(got), got)
	}
	if got := drain(t, b.Subscribe(Query{Until: now})); len(got) != 0 {
		t.Errorf("no Since replays %v", got)
	}
	if got := drain(t, b.Subscribe(Query{Since: time.Unix(1, 0), Until: time.Unix(2, 0)})); len(got) != 0 {
		t.Errorf("an Until before all events lets %v pass", got)
	}
}

func TestLive(t *testing.T) {
	b := NewBus()
	s := b.Subscribe(Query{Filter: filter.Args{"type": {"volume"}}})
	defer s.Close()
	go func() {
		b.Publish(events.NetworkEventType, events.ActionCreate, "n", nil)
		b.Publish(events.VolumeEventType, events.ActionCreate, "v", nil)
	}()
	if m, more, err := s.Next(t.Context()); err != nil || !more || m.Actor.ID != "v" {
		t.Errorf("Next = %v, %v, %v", m, more, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := s.Next(ctx); err == nil {
		t.Error("Next goes on after its context")
	}
}

func TestSlowSubscriberIsTold(t *testing.T) {
	b := NewBus()
	s := b.Subscribe(Query{})
	defer s.Close()
	for range maxQueued + 1 {
		b.Publish(events.VolumeEventType, events.ActionCreate, "v", nil)
	}
	for range maxQueued {
		if _, _, err := s.Next(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := s.Next(t.Context()); err == nil {
		t.Error("a gap in the events goes unnoticed")
	}
}

func TestMatches(t *testing.T) {
	started := events.Message{
		Type: events.ContainerEventType, Action: "exec_start: sh -c true", Scope: "local",
		Actor: events.Actor{ID: "0123abcd", Attributes: map[string]string{"name": "web", "image": "localhost:5000/app:1", "tier": "front"}},
	}
	tagged := events.Message{Type: events.ImageEventType, Action: events.ActionTag, Actor: events.Actor{ID: "sha256:77", Attributes: map[string]string{"name": "app:2"}}}
	for _, tt := range []struct {
		name string
		f    filter.Args
		m    events.Message
		want bool
	}{
		{"no filter", nil, started, true},
		{"type", filter.Args{"type": {"container", "volume"}}, started, true},
		{"another type", filter.Args{"type": {"volume"}}, started, false},
		{"event before the colon", filter.Args{"event": {"exec_start"}}, started, true},
		{"another event", filter.Args{"event": {"exec"}}, started, false},
		{"container by name", filter.Args{"container": {"web"}}, started, true},
		{"container by short id", filter.Args{"container": {"0123"}}, started, true},
		{"another container", filter.Args{"container": {"db"}}, started, false},
		{"container filter keeps images out", filter.Args{"container": {"app:2"}}, tagged, false},
		{"label", filter.Args{"label": {"tier=front"}}, started, true},
		{"another label", filter.Args{"label": {"tier=back"}}, started, false},
		{"image of a container without tag", filter.Args{"image": {"localhost:5000/app"}}, started, true},
		{"image by id", filter.Args{"image": {"sha256:77"}}, tagged, true},
		{"another image", filter.Args{"image": {"app:1"}}, tagged, false},
		{"scope", filter.Args{"scope": {"swarm"}}, started, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := matches(tt.f, tt.m); got != tt.want {
				t.Errorf("matches = %v", got)
			}
		})
	}
}
