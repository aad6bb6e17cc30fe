package container

import (
	"context"
	"errors"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/kelp-engine/kelp/engine/crashpoint"
	"github.com/kelp-engine/kelp/engine/fault"
	"github.com/kelp-engine/kelp/engine/spec"
)

// link is a container's own name for another on the default network.
type link struct {
	parent *Container
	alias  string
}

// name is the name that Docker shows the other container under.
func (l link) name() string { return "/" + l.parent.Snapshot().Name + "/" + l.alias }

// links are those of all containers.
type links struct{ *registry }

// all returns them by the id of the container that they lead to.
func (g links) all() map[string][]link {
	g.mu.RLock()
	var parents []*Container
	for _, c := range g.byID {
		if h := c.Snapshot().HostConfig; h.NetworkMode.IsBridge() && len(h.Links) > 0 {
			parents = append(parents, c)
		}
	}
	g.mu.RUnlock()
	all := map[string][]link{}
	for _, p := range parents {
		for _, text := range p.Snapshot().HostConfig.Links {
			name, alias := spec.SplitLink(text)
			if c, err := g.Find(name); err == nil {
				all[c.id] = append(all[c.id], link{p, alias})
			}
		}
	}
	return all
}

// names are those under which Docker shows containers besides their own, by id.
func (g links) names() map[string][]string {
	all := map[string][]string{}
	for id, to := range g.all() {
		for _, l := range to {
			all[id] = append(all[id], l.name())
		}
		slices.Sort(all[id])
	}
	return all
}

// find returns the container that a link leads to, by one link only: there
// may be circles.
func (g links) find(parent, alias string) (*Container, error) {
	p, err := findPlain(g.registry, parent)
	if err == nil && p.Snapshot().HostConfig.NetworkMode.IsBridge() {
		for _, text := range p.Snapshot().HostConfig.Links {
			if name, a := spec.SplitLink(text); a == alias {
				return findPlain(g.registry, name)
			}
		}
	}
	return nil, noSuch(parent + "/" + alias)
}

// UpdateLinks sets the line of a container in the hosts files of those that
// are linked to it.
func (e *etcFiles) UpdateLinks(id string, line func(alias string) string) error {
	var errs []error
	for _, l := range (links{e.g}).all()[id] {
		errs = append(errs, e.setLink(l, line(l.alias)))
	}
	return errors.Join(errs...)
}

// setLink replaces the line of a link in the parent's hosts file; "" removes it.
func (e *etcFiles) setLink(l link, line string) error {
	old := regexp.MustCompile(`^\S+\t` + regexp.QuoteMeta(l.alias) + ` [0-9a-f]{12}( |$)`)
	return e.edit(filepath.Join(e.g.dir(l.parent.id), "hosts"), func(b []byte) []byte {
		var out []string
		missing := line != ""
		for text := range strings.Lines(string(b)) {
			switch text = strings.TrimSuffix(text, "\n"); {
			case !old.MatchString(text):
				out = append(out, text+"\n")
			case missing:
				out, missing = append(out, line+"\n"), false
			}
		}
		if missing {
			out = append(out, line+"\n")
		}
		return []byte(strings.Join(out, ""))
	})
}

// remove ends a link, which ref names as "parent/alias"; both containers stay.
func (g links) remove(ctx context.Context, ref string, files *etcFiles) error {
	name, alias, ok := strings.Cut(strings.TrimPrefix(ref, "/"), "/")
	parent, err := g.Find(name)
	if err != nil {
		return noSuch(ref)
	}
	if !ok {
		return fault.Conflict("Conflict, cannot remove the default link name of the container").
			WithHint("name a link: docker rm --link CONTAINER/ALIAS")
	}
	release, err := parent.beginOp(ctx)
	if err != nil {
		return err
	}
	defer release()
	isIt := func(text string) bool {
		_, a := spec.SplitLink(text)
		return a == alias
	}
	if h := parent.Snapshot().HostConfig; !h.NetworkMode.IsBridge() || !slices.ContainsFunc(h.Links, isIt) {
		return noSuch(ref)
	}
	err = g.edit(parent, func(text string) string {
		if isIt(text) {
			return ""
		}
		return text
	})
	if err != nil {
		return err
	}
	return files.setLink(link{parent, alias}, "")
}

// follow has the links to a container that was renamed follow it. The engine
// may die between any two of their records: then Recover does it.
func (g links) follow(c *Container) error {
	r := c.Snapshot()
	if r.FormerName == "" {
		return nil
	}
	for _, l := range g.all()[c.id] {
		err := g.edit(l.parent, func(text string) string {
			if name, alias := spec.SplitLink(text); name == r.FormerName {
				return r.Name + ":" + alias
			}
			return text
		})
		if err != nil {
			return err
		}
		crashpoint.Hit("container.rename.followed")
	}
	if err := g.change(c, power, func(next *Record) { next.FormerName = "" }); err != nil {
		return err
	}
	g.unreserve(c.id, r.FormerName)
	return nil
}

// edit replaces each link of a container by what f makes of it; "" removes it.
func (g links) edit(parent *Container, f func(text string) string) error {
	return g.change(parent, power, func(r *Record) {
		h := *r.HostConfig
		h.Links = nil
		for _, text := range r.HostConfig.Links {
			if text = f(text); text != "" {
				h.Links = append(h.Links, text)
			}
		}
		r.HostConfig = &h
	})
}
