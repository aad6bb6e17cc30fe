package transfer

import (
	"context"
	"maps"
	"slices"
	"sync"

	"github.com/moby/moby/api/types/jsonstream"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// shared lets a layer that several pulls want come once: a pull that lacks
// what another one fetches waits for that to end, and shows its progress.
type shared struct {
	mu       sync.Mutex
	fetching map[digest.Digest]*fetching // by layer
}

// fetching is a pull that brings layers.
type fetching struct {
	ended chan struct{}

	mu        sync.Mutex
	followers []chan jsonstream.Message
}

// claim returns when nobody else fetches a layer that p lacks, and keeps
// others from it until release is called. Nothing is held during the wait, so
// that no two pulls wait for each other.
func (s *shared) claim(ctx context.Context, p *pull) (release func(), err error) {
	for {
		other := s.tryClaim(p)
		if other == nil {
			return func() { s.release(p.own) }, nil
		}
		if err := p.follow(ctx, other); err != nil {
			return nil, err
		}
	}
}

// tryClaim claims all layers that p lacks, or returns who fetches one of them.
func (s *shared) tryClaim(p *pull) *fetching {
	s.mu.Lock()
	defer s.mu.Unlock()
	missing := p.missing()
	for _, l := range missing {
		if other := s.fetching[l.Digest]; other != nil {
			return other
		}
	}
	p.own = &fetching{ended: make(chan struct{})}
	for _, l := range missing {
		s.fetching[l.Digest] = p.own
	}
	return nil
}

func (s *shared) release(f *fetching) {
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.DeleteFunc(s.fetching, func(_ digest.Digest, other *fetching) bool { return other == f })
	close(f.ended)
}

// unread is how many messages wait for a client that reads slowly; it misses
// those beyond, for it must not hold up the one that fetches.
const unread = 64

// follow waits for the end of another pull and shows what it tells of the
// layers that both want.
func (p *pull) follow(ctx context.Context, other *fetching) error {
	ours := map[string]digest.Digest{}
	for _, l := range p.missing() {
		ours[shortID(l.Digest)] = l.Digest
		p.progress(jsonstream.Message{ID: shortID(l.Digest), Status: "Waiting"})
	}
	c := make(chan jsonstream.Message, unread)
	other.mu.Lock()
	other.followers = append(other.followers, c)
	other.mu.Unlock()
	defer func() {
		other.mu.Lock()
		defer other.mu.Unlock()
		other.followers = slices.DeleteFunc(other.followers, func(f chan jsonstream.Message) bool { return f == c })
	}()
	for {
		select {
		case m := <-c:
			if layer, ok := ours[m.ID]; ok {
				p.came[layer] = true
				p.progress(m)
			}
		case <-other.ended:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// tell shows a message of a layer to the client and to those that wait for it.
func (p *pull) tell(m jsonstream.Message) {
	p.progress(m)
	p.own.mu.Lock()
	defer p.own.mu.Unlock()
	for _, f := range p.own.followers {
		select {
		case f <- m:
		default:
		}
	}
}

// missing lists the layers that the store does not have.
func (p *pull) missing() (layers []ocispec.Descriptor) {
	for i, l := range p.mf.Layers {
		if !p.m.store.Has(p.diffIDs[:i+1]) && !p.m.store.HasDiff(p.diffIDs[i]) {
			layers = append(layers, l)
		}
	}
	return layers
}
