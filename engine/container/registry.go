package container

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/moby/moby/api/types/events"

	"github.com/kelp-engine/kelp/engine/fault"
	"github.com/kelp-engine/kelp/engine/record"
)

// schema of Record.
const schema = 1

// registry knows every container and its name, keeps their records on disk,
// and tells of what happens to them.
type registry struct {
	store  *record.Store[Record]
	events Publisher

	mu    sync.RWMutex
	byID  map[string]*Container // guarded by mu
	names map[string]string     // guarded by mu; name to id, of those being created too
}

func newRegistry(dir string, p Publisher) (*registry, error) {
	store, err := record.NewStore[Record](dir, record.Options{File: "container.json", Schema: schema})
	if err != nil {
		return nil, err
	}
	return &registry{store: store, events: p, byID: map[string]*Container{}, names: map[string]string{}}, nil
}

// Find returns the container with the given id, name, or unique start of an
// id, or that a link CONTAINER/ALIAS leads to.
func (g *registry) Find(ref string) (*Container, error) {
	if ref == "" {
		return nil, fault.InvalidArgument("container name or ID cannot be empty")
	}
	if parent, alias, ok := strings.Cut(strings.TrimPrefix(ref, "/"), "/"); ok {
		return links{g}.find(parent, alias)
	}
	return findPlain(g, ref)
}

// findPlain is Find without links.
func findPlain(g *registry, ref string) (*Container, error) {
	g.mu.RLock()
	defer g.mu.RUnlock()
	if c := g.byID[ref]; c != nil {
		return c, nil
	}
	if c := g.byID[g.names[strings.TrimPrefix(ref, "/")]]; c != nil {
		return c, nil
	}
	var found *Container
	for id, c := range g.byID {
		if strings.HasPrefix(id, ref) {
			if found != nil {
				return nil, fault.InvalidArgument("multiple IDs found with provided prefix: %s", ref)
			}
			found = c
		}
	}
	if found == nil {
		return nil, noSuch(ref)
	}
	return found, nil
}

// All returns every container, the newest first.
func (g *registry) All() []*Container {
	g.mu.RLock()
	all := slices.Collect(maps.Values(g.byID))
	g.mu.RUnlock()
	slices.SortFunc(all, func(a, b *Container) int {
		return cmp.Or(b.Snapshot().Created.Compare(a.Snapshot().Created), strings.Compare(a.id, b.id))
	})
	return all
}

// byExactID returns the container, or nil.
func (g *registry) byExactID(id string) *Container {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return g.byID[id]
}

// add makes a container visible.
func (g *registry) add(c *Container) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.byID[c.id] = c
	r := c.Snapshot()
	g.names[r.Name] = c.id
	if r.FormerName != "" {
		g.names[r.FormerName] = c.id
	}
}

// drop takes a removed container out.
func (g *registry) drop(c *Container) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.byID, c.id)
	r := c.Snapshot()
	for _, name := range []string{r.Name, r.FormerName} {
		if g.names[name] == c.id {
			delete(g.names, name)
		}
	}
}

// dir is the container's own directory.
func (g *registry) dir(id string) string { return g.store.Dir(id) }

// change replaces the container's record by one that edit was applied to,
// saved first.
func (g *registry) change(c *Container, d durability, edit func(*Record)) error {
	c.saving.Lock()
	defer c.saving.Unlock()
	next := *c.Snapshot()
	edit(&next)
	if err := g.save(&next, d); err != nil {
		return err
	}
	c.rec.Store(&next)
	c.broadcast()
	return nil
}

func (g *registry) save(r *Record, d durability) error {
	save := g.store.SaveRecent
	if d == power {
		save = g.store.Save
	}
	if err := save(r.ID, r); err != nil {
		return fault.Internal("cannot keep the state of container %s: %w", r.Name, err)
	}
	return nil
}

// erase removes the record and the directory of a container that is removed.
func (g *registry) erase(r *Record) error {
	if r.kept() == power {
		return g.store.Delete(r.ID)
	}
	return g.store.DeleteRecent(r.ID)
}

// move is change to another state.
func (g *registry) move(c *Container, to State, d durability, edit func(*Record)) error {
	return g.change(c, d, func(r *Record) { r.enter(to, edit) })
}

// happened is move to a state that is so whether it can be saved or not, as on
// a full disk: the next engine would find it out anew.
func (g *registry) happened(c *Container, to State, d durability, edit func(*Record)) error {
	c.saving.Lock()
	defer c.saving.Unlock()
	next := *c.Snapshot()
	next.enter(to, edit)
	c.rec.Store(&next)
	err := g.save(&next, d)
	c.broadcast()
	return err
}

// publish tells of an action on a container, with Docker's attributes: its
// labels, image and name, and extra pairs.
func (g *registry) publish(r *Record, action events.Action, extra ...string) {
	attrs := make(map[string]string, len(r.Config.Labels)+2+len(extra)/2)
	maps.Copy(attrs, r.Config.Labels)
	attrs["image"], attrs["name"] = r.Config.Image, r.Name
	for i := 0; i+1 < len(extra); i += 2 {
		attrs[extra[i]] = extra[i+1]
	}
	g.events.Publish(events.ContainerEventType, action, r.ID, attrs)
}

// Publish tells of an action that another package took on a container:
// attach, exec, resize, copy and the like. extra are pairs of attributes.
func (g *registry) Publish(c *Container, action events.Action, extra ...string) {
	g.publish(c.Snapshot(), action, extra...)
}
