package apidef

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// base is the URL of a definition as a JSON schema.
const base = "engine-api.json"

// location is where in the schema the body of an answer is described.
func (o *Operation) location(status int) string {
	return base + "#/answers/" + escape(o.key(status))
}

func (o *Operation) key(status int) string {
	return o.Method + " " + o.Path + " " + strconv.Itoa(status)
}

func escape(pointer string) string {
	return strings.NewReplacer("~", "~0", "/", "~1", " ", "%20", "{", "%7B", "}", "%7D").Replace(pointer)
}

// translator makes JSON schemas of the definition's, which are of a dialect:
// x-nullable, and objects that name their fields and mean no others.
type translator struct {
	definitions map[string]any
	strict      bool
}

// document is the schema of all that d defines.
func (t *translator) document(d *Definition) map[string]any {
	definitions, answers := map[string]any{}, map[string]any{}
	for name, s := range t.definitions {
		definitions[name] = t.schema(s)
	}
	for _, o := range d.Operations {
		for status, r := range o.responses {
			if r.schema != nil {
				answers[o.key(status)] = t.schema(r.schema)
			}
		}
	}
	return map[string]any{"definitions": definitions, "answers": answers}
}

// kept are the keywords that mean the same in both. The numbers' limits and
// formats are left out: what is out of them is documented, too.
var kept = []string{"type", "enum", "pattern", "minItems", "maxItems", "required"}

func (t *translator) schema(s any) any {
	in, ok := s.(map[string]any)
	if !ok {
		return true
	}
	if in["allOf"] != nil {
		in = t.flatten(in)
	}
	out := map[string]any{}
	if ref, ok := in["$ref"].(string); ok {
		out["$ref"] = base + ref
	} else {
		t.keywords(in, out)
	}
	if in["x-nullable"] == true {
		return map[string]any{"anyOf": []any{out, map[string]any{"type": "null"}}}
	}
	return out
}

func (t *translator) keywords(in, out map[string]any) {
	for _, k := range kept {
		if v, ok := in[k]; ok {
			out[k] = v
		}
	}
	if items, ok := in["items"]; ok {
		out["items"] = t.schema(items)
	}
	properties, named := in["properties"].(map[string]any)
	if named {
		all := map[string]any{}
		for name, p := range properties {
			all[name] = t.schema(p)
		}
		out["properties"] = all
	}
	switch more := in["additionalProperties"].(type) {
	case map[string]any:
		out["additionalProperties"] = t.schema(more)
	case bool:
		out["additionalProperties"] = more
	case nil:
		if named && t.strict {
			out["additionalProperties"] = false
		}
	}
	if out["type"] == "string" && in["format"] == "binary" {
		delete(out, "type")
	}
}

// flatten makes one object of allOf, so that "no other fields" can be said of
// it.
func (t *translator) flatten(in map[string]any) map[string]any {
	parts, _ := in["allOf"].([]any)
	properties, required := map[string]any{}, []any{}
	rest := maps.Clone(in)
	delete(rest, "allOf")
	for _, p := range append(slices.Clone(parts), rest) {
		part := t.resolve(p)
		if part["allOf"] != nil {
			part = t.flatten(part)
		}
		if fields, ok := part["properties"].(map[string]any); ok {
			maps.Copy(properties, fields)
		}
		if r, ok := part["required"].([]any); ok {
			required = append(required, r...)
		}
		if len(parts) == 1 && part["properties"] == nil { // of what is no object with fields
			maps.Copy(rest, part)
		}
	}
	if len(properties) > 0 {
		rest["type"], rest["properties"] = "object", properties
	}
	if len(required) > 0 {
		rest["required"] = required
	}
	return rest
}

// resolve follows references.
func (t *translator) resolve(s any) map[string]any {
	for range 10 {
		m, _ := s.(map[string]any)
		ref, ok := m["$ref"].(string)
		if !ok {
			return m
		}
		s = t.definitions[strings.TrimPrefix(ref, "#/definitions/")]
	}
	panic(fmt.Sprint("the definition has a loop of references: ", s))
}
