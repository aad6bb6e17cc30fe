// Package events carries what happens to objects to the clients that watch,
// and keeps the last events for those that ask later.
//
// It must not know the kinds of objects: whoever changes one publishes.
package events

import (
	"context"
	"sync"
	"time"

	"github.com/moby/moby/api/types/events"

	"github.com/kelp-engine/kelp/engine/fault"
	"github.com/kelp-engine/kelp/engine/filter"
)

const (
	// kept events for replay, as many as Docker keeps.
	kept = 256
	// maxQueued bounds what one subscriber may lag behind, in events.
	maxQueued = 8192
)

// Bus hands every event to every subscriber, in one order.
type Bus struct {
	mu   sync.Mutex
	last []events.Message // the newest kept ones, oldest first
	subs map[*Subscription]struct{}
	now  func() time.Time
	prev int64 // the newest event's time: times never repeat or run backwards
}

// NewBus returns a bus with no past.
func NewBus() *Bus {
	return &Bus{subs: map[*Subscription]struct{}{}, now: time.Now}
}

// Publish tells all subscribers that action happened to the object id. The
// bus owns attrs from then on. It does not wait for anyone.
func (b *Bus) Publish(typ events.Type, action events.Action, id string, attrs map[string]string) {
	if attrs == nil {
		attrs = map[string]string{}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	now := max(b.now().UnixNano(), b.prev+1)
	b.prev = now
	m := events.Message{
		Type:     typ,
		Action:   action,
		Actor:    events.Actor{ID: id, Attributes: attrs},
		Scope:    "local",
		Time:     now / int64(time.Second),
		TimeNano: now,
	}
	if len(b.last) == kept {
		copy(b.last, b.last[1:])
		b.last[kept-1] = m
	} else {
		b.last = append(b.last, m)
	}
	for s := range b.subs {
		s.offer(m)
	}
}

// Listeners is the number of subscriptions.
func (b *Bus) Listeners() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.subs)
}

// Query says which events a subscriber wants.
type Query struct {
	// Since, unless zero, asks for the events that are kept from then on.
	Since time.Time
	// Until, unless zero, ends the subscription at that time.
	Until  time.Time
	Filter filter.Args // of the keys FilterKeys
}

// Subscription is a sequence of events. Its user must Close it.
type Subscription struct {
	bus   *Bus
	query Query
	wake  chan struct{} // holds a token when the queue may have something

	mu      sync.Mutex
	queue   []events.Message
	tooSlow bool
}

// Subscribe returns the kept events that match q, and those to come: no event
// is missing or doubled in between.
func (b *Bus) Subscribe(q Query) *Subscription {
	s := &Subscription{bus: b, query: q, wake: make(chan struct{}, 1)}
	b.mu.Lock()
	defer b.mu.Unlock()
	if !q.Since.IsZero() {
		for _, m := range b.last {
			if !time.Unix(0, m.TimeNano).Before(q.Since) {
				s.offer(m)
			}
		}
	}
	b.subs[s] = struct{}{}
	return s
}

// Close ends the subscription.
func (s *Subscription) Close() {
	s.bus.mu.Lock()
	defer s.bus.mu.Unlock()
	delete(s.bus.subs, s)
}

// offer queues m if it is wanted.
func (s *Subscription) offer(m events.Message) {
	if !s.query.Until.IsZero() && time.Unix(0, m.TimeNano).After(s.query.Until) || !matches(s.query.Filter, m) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.queue) >= maxQueued {
		s.tooSlow = true
	}
	if s.tooSlow {
		return
	}
	s.queue = append(s.queue, m)
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Next returns the next event. more is false when the subscription has come
// to its Until. A subscriber that lags too far behind gets an error after the
// last event before the gap: events are not left out in silence.
func (s *Subscription) Next(ctx context.Context) (m events.Message, more bool, err error) {
	var until <-chan time.Time
	if !s.query.Until.IsZero() {
		t := time.NewTimer(time.Until(s.query.Until))
		defer t.Stop()
		until = t.C
	}
	for {
		m, ok, err := s.take()
		if ok || err != nil {
			return m, ok, err
		}
		select {
		case <-ctx.Done():
			return m, false, ctx.Err()
		case <-s.wake:
		case <-until:
			m, ok, err := s.take()
			return m, ok, err
		}
	}
}

func (s *Subscription) take() (events.Message, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.queue) > 0 {
		m := s.queue[0]
		s.queue = s.queue[1:]
		return m, true, nil
	}
	if s.tooSlow {
		return events.Message{}, false, fault.Unavailable("events were lost: the client reads them too slowly")
	}
	return events.Message{}, false, nil
}
