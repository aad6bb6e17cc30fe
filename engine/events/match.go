package events

import (
	"strings"

	"github.com/moby/moby/api/types/events"

	"github.com/kelp-engine/kelp/engine/filter"
)

// FilterKeys are the keys that a Query's Filter may have.
var FilterKeys = []string{
	"config", "container", "daemon", "event", "image", "label", "network",
	"node", "plugin", "scope", "secret", "service", "type", "volume",
}

// objectKeys are the keys that name objects of the type of the same name.
var objectKeys = []events.Type{
	events.ConfigEventType, events.ContainerEventType, events.DaemonEventType, events.NetworkEventType,
	events.NodeEventType, events.PluginEventType, events.SecretEventType, events.ServiceEventType, events.VolumeEventType,
}

func matches(f filter.Args, m events.Message) bool {
	if len(f) == 0 {
		return true
	}
	if !f.Exact("type", string(m.Type)) || !f.Exact("scope", m.Scope) || !f.Labels("label", m.Actor.Attributes) {
		return false
	}
	// "exec_start: sh" and "health_status: healthy" match by what stands
	// before the colon as well.
	if !f.Any("event", func(want string) bool {
		before, _, _ := strings.Cut(string(m.Action), ":")
		return want == string(m.Action) || want == before
	}) {
		return false
	}
	for _, typ := range objectKeys {
		if f.Has(string(typ)) && (m.Type != typ || !names(f, typ, m.Actor)) {
			return false
		}
	}
	return matchesImage(f, m)
}

// names says whether a filter names the actor by id, a prefix of either, or name.
func names(f filter.Args, typ events.Type, a events.Actor) bool {
	return f.Any(string(typ), func(want string) bool {
		name := a.Attributes["name"]
		return strings.HasPrefix(a.ID, want) || name != "" && strings.HasPrefix(name, want)
	})
}

// matchesImage lets events of an image pass and those of its containers, by
// the image's id or its name with or without the tag.
func matchesImage(f filter.Args, m events.Message) bool {
	if !f.Has("image") {
		return true
	}
	id, name := m.Actor.ID, m.Actor.Attributes["name"]
	if m.Type == events.ContainerEventType {
		id, name = "", m.Actor.Attributes["image"]
	}
	return f.Any("image", func(want string) bool {
		return want == id || want == name || want == withoutTag(name)
	})
}

func withoutTag(name string) string {
	name, _, _ = strings.Cut(name, "@")
	if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, '/') {
		return name[:i]
	}
	return name
}
