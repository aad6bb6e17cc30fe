package apidef

import (
	"maps"
	"slices"
	"strings"
)

// Field is a member of a request's body.
type Field struct {
	// Name is DEFINITION.member, or "METHOD PATH.member" of what has no name.
	Name string
	// Path leads to it from the body: members, and "[]" or "{}" for any
	// element of a list or map.
	Path []string
}

// Fields lists the members of o's body, each definition's once, but for what
// is below those that skip names.
func (o *Operation) Fields(skip func(name string) bool) []Field {
	w := &walk{of: &translator{definitions: o.of.definitions}, skip: skip, seen: map[string]bool{}}
	for _, p := range o.Parameters {
		if p.In == "body" {
			w.schema(p.Body, o.Method+" "+o.Path, nil)
		}
	}
	return w.fields
}

type walk struct {
	of     *translator
	skip   func(string) bool
	seen   map[string]bool // names of fields
	fields []Field
}

func (w *walk) schema(s any, name string, path []string) {
	m, _ := s.(map[string]any)
	if ref, ok := m["$ref"].(string); ok {
		name = strings.TrimPrefix(ref, "#/definitions/")
		m = w.of.resolve(m)
	}
	if parts, ok := m["allOf"].([]any); ok {
		for _, p := range parts {
			w.schema(p, name, path)
		}
	}
	properties, _ := m["properties"].(map[string]any)
	for _, member := range slices.Sorted(maps.Keys(properties)) {
		f := Field{Name: name + "." + member, Path: append(slices.Clone(path), member)}
		if w.seen[f.Name] {
			continue
		}
		w.seen[f.Name] = true
		w.fields = append(w.fields, f)
		if !w.skip(f.Name) {
			w.schema(properties[member], f.Name, f.Path)
		}
	}
	if items, ok := m["items"]; ok {
		w.schema(items, name, append(slices.Clone(path), "[]"))
	}
	if more, ok := m["additionalProperties"].(map[string]any); ok {
		w.schema(more, name, append(slices.Clone(path), "{}"))
	}
}
