package container

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"

	"github.com/kelp-engine/kelp/engine/fault"
)

// FilterKeys are the keys that ListOptions.Filter may have.
var FilterKeys = []string{
	"ancestor", "annotation", "before", "exited", "expose", "health", "id", "is-task", "isolation",
	"label", "name", "network", "publish", "since", "status", "volume",
}

// matcher says which containers are wanted.
type matcher struct {
	ListOptions
	run       *runner
	byName    func(string) bool
	byID      func(string) bool
	exited    []int
	before    time.Time // zero is any time
	since     time.Time
	ancestors func(imageID string) bool
	publish   []portRange
	expose    []portRange
	task      bool
}

func newMatcher(ctx context.Context, run *runner, o ListOptions) (*matcher, error) {
	f := o.Filter
	m := &matcher{ListOptions: o, run: run, byName: f.Matcher("name"), byID: f.Matcher("id"), ancestors: func(string) bool { return true }}
	m.All = m.All || f.Has("status")
	for _, s := range f["status"] {
		if err := container.ValidateContainerState(container.ContainerState(s)); err != nil {
			return nil, fault.InvalidArgument("invalid filter 'status=%s': %w", s, err)
		}
	}
	for _, s := range f["health"] {
		if err := container.ValidateHealthStatus(container.HealthStatus(s)); err != nil {
			return nil, fault.InvalidArgument("invalid filter 'health=%s': %w", s, err)
		}
	}
	for _, s := range f["exited"] {
		code, err := strconv.Atoi(s)
		if err != nil {
			return nil, fault.InvalidArgument("invalid filter 'exited=%s': it must be an exit code", s)
		}
		m.exited = append(m.exited, code)
	}
	for _, bound := range []struct {
		key  string
		time *time.Time
	}{{"before", &m.before}, {"since", &m.since}} {
		for _, ref := range f[bound.key] {
			c, err := run.Find(ref)
			if err != nil {
				return nil, err
			}
			*bound.time = c.Snapshot().Created
		}
	}
	var err error
	if m.publish, err = portRanges("publish", f["publish"]); err != nil {
		return nil, err
	}
	if m.expose, err = portRanges("expose", f["expose"]); err != nil {
		return nil, err
	}
	if m.task, err = f.Bool("is-task", false); err != nil {
		return nil, err
	}
	if f.Has("ancestor") {
		m.ancestors = ancestry(ctx, run.o.Images, f["ancestor"])
	}
	return m, nil
}

// matches says so of a container that is called some names.
func (m *matcher) matches(r *Record, called []string) bool {
	f := m.Filter
	switch {
	case !m.All && m.Limit <= 0 && !r.State.Running() && r.State != Restarting:
		return false
	case len(f) == 0:
		return true
	}
	return !m.task && // no container belongs to a service's task
		m.byID(r.ID) &&
		slices.ContainsFunc(called, func(n string) bool { return m.byName(n) || m.byName(strings.TrimPrefix(n, "/")) }) &&
		f.Labels("label", r.Config.Labels) &&
		f.Labels("annotation", r.HostConfig.Annotations) &&
		f.Exact("status", string(r.apiState())) &&
		f.Exact("health", string(healthSummary(r.Health).Status)) &&
		(m.before.IsZero() || r.Created.Before(m.before)) &&
		(m.since.IsZero() || r.Created.After(m.since)) &&
		m.matchesExit(r) &&
		m.ancestors(r.Image) &&
		m.matchesMounts(r) &&
		m.matchesNetworks(r)
}

func (m *matcher) matchesExit(r *Record) bool {
	return len(m.exited) == 0 || r.State == Exited && slices.Contains(m.exited, r.ExitCode)
}

func (m *matcher) matchesMounts(r *Record) bool {
	return m.Filter.Any("volume", func(want string) bool {
		for _, p := range r.Mounts {
			if want == p.Target || want == p.Source || p.Name != "" && want == p.Name {
				return true
			}
		}
		return false
	})
}

func (m *matcher) matchesNetworks(r *Record) bool {
	if !m.Filter.Has("network") && m.publish == nil && m.expose == nil {
		return true
	}
	net := m.run.o.Networks.Settings(r)
	ok := m.Filter.Any("network", func(want string) bool {
		for name, e := range net.Networks {
			if want == name || e != nil && e.NetworkID != "" && strings.HasPrefix(e.NetworkID, want) {
				return true
			}
		}
		return false
	})
	return ok && inRanges(m.publish, func(in func(network.Port) bool) bool {
		for port, bindings := range net.Ports {
			if len(bindings) > 0 && in(port) {
				return true
			}
		}
		return false
	}) && inRanges(m.expose, func(in func(network.Port) bool) bool {
		for port := range r.Config.ExposedPorts {
			if in(port) {
				return true
			}
		}
		return false
	})
}

// portRange is a filter value like 80, 80/udp or 8000-8080/tcp.
type portRange struct {
	first, last uint16
	proto       string
}

func portRanges(key string, values []string) (list []portRange, err error) {
	for _, v := range values {
		ports, proto, _ := strings.Cut(v, "/")
		first, last, isRange := strings.Cut(ports, "-")
		if !isRange {
			last = first
		}
		a, err1 := strconv.ParseUint(first, 10, 16)
		b, err2 := strconv.ParseUint(last, 10, 16)
		if err1 != nil || err2 != nil || a > b {
			return nil, fault.InvalidArgument("invalid filter '%s=%s'", key, v).WithHint("write a port or a range, such as 80 or 8000-8080/tcp")
		}
		if proto == "" {
			proto = string(network.TCP)
		}
		list = append(list, portRange{uint16(a), uint16(b), strings.ToLower(proto)})
	}
	return list, nil
}

// inRanges asks has for one of the ranges, unless there are none.
func inRanges(ranges []portRange, has func(in func(network.Port) bool) bool) bool {
	return ranges == nil || slices.ContainsFunc(ranges, func(w portRange) bool {
		return has(func(p network.Port) bool {
			return p.Num() >= w.first && p.Num() <= w.last && string(p.Proto()) == w.proto
		})
	})
}

// ancestry says of an image whether it is one of those that refs name, or was
// made from one. A name that means no image has no descendants.
func ancestry(ctx context.Context, images Images, refs []string) func(string) bool {
	wanted := map[string]bool{}
	for _, ref := range refs {
		if img, err := images.Resolve(ctx, ref); err == nil {
			wanted[img.ID] = true
		} else {
			wanted[ref] = true // of an image that is gone, the Id is left
		}
	}
	known := map[string]bool{}
	return func(id string) bool {
		yes, ok := known[id]
		for at := id; !ok && at != ""; {
			if yes = wanted[at]; yes {
				break
			}
			img, err := images.Resolve(ctx, at)
			if err != nil {
				break
			}
			at = img.Parent
		}
		known[id] = yes
		return yes
	}
}
