// Package apidef reads the definition of the Engine API that ships with its
// types module, and judges answers by it.
//
// It must not know kelp: what it says holds for any engine.
package apidef

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
	"go.yaml.in/yaml/v3"
)

// Newest is the API version of the types module.
const Newest = "1.56"

const typesModule = "github.com/moby/moby/api"

// Dir returns the directory of the definitions, one file a version.
func Dir() (string, error) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", typesModule).Output()
	if err != nil {
		return "", fmt.Errorf("cannot find the module %s: %w", typesModule, err)
	}
	return filepath.Join(strings.TrimSpace(string(out)), "docs"), nil
}

// Definition is that of one version of the API.
type Definition struct {
	// Operations are the endpoints, in the definition's order.
	Operations []*Operation

	version     string
	definitions map[string]any
	compiler    *jsonschema.Compiler
	mu          sync.Mutex // of compiler
}

// Operation is one endpoint.
type Operation struct {
	// Method and Path are as in the definition: GET, /containers/{id}/json.
	Method, Path string
	// Tag is the kind of resource: Container, Image, …
	Tag string
	// Parameters are those of the query, the header and the body.
	Parameters []Parameter
	// Produces are the documented media types.
	Produces []string

	responses map[int]response
	of        *Definition
}

// Parameter is one of an operation.
type Parameter struct {
	// Name is "" for the body.
	Name string
	// In is query, header or body.
	In string
	// Body is the schema of a body.
	Body any
	// Description is the definition's text.
	Description string
}

type response struct {
	schema map[string]any // nil for none
}

// document is what is read of the file.
type document struct {
	Definitions map[string]any           `yaml:"definitions"`
	Paths       map[string]map[string]op `yaml:"paths"`
	Produces    []string                 `yaml:"produces"`
}

type op struct {
	Tags       []string          `yaml:"tags"`
	Produces   []string          `yaml:"produces"`
	Parameters []map[string]any  `yaml:"parameters"`
	Responses  map[string]schema `yaml:"responses"`
}

type schema struct {
	Schema map[string]any `yaml:"schema"`
}

// Load reads the definition of a version, as "1.56", from dir. With strict,
// what it does not document is not allowed in answers.
func Load(dir, version string, strict bool) (*Definition, error) {
	text, err := os.ReadFile(filepath.Join(dir, "v"+version+".yaml"))
	if err != nil {
		return nil, err
	}
	var doc document
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return nil, fmt.Errorf("cannot read the definition of %s: %w", version, err)
	}
	d := &Definition{version: version, definitions: doc.Definitions}
	for path, methods := range doc.Paths {
		for method, o := range methods {
			d.Operations = append(d.Operations, d.operation(strings.ToUpper(method), path, o, doc.Produces))
		}
	}
	slices.SortFunc(d.Operations, func(a, b *Operation) int {
		return strings.Compare(a.Path+" "+a.Method, b.Path+" "+b.Method)
	})
	d.compiler = jsonschema.NewCompiler()
	d.compiler.DefaultDraft(jsonschema.Draft7)
	return d, d.compiler.AddResource(base, (&translator{d.definitions, strict}).document(d))
}

func (d *Definition) operation(method, path string, o op, produces []string) *Operation {
	r := &Operation{Method: method, Path: path, Produces: o.Produces, responses: map[int]response{}, of: d}
	if len(o.Tags) > 0 {
		r.Tag = o.Tags[0]
	}
	if r.Produces == nil {
		r.Produces = produces
	}
	for _, p := range o.Parameters {
		in, _ := p["in"].(string)
		name, _ := p["name"].(string)
		switch in {
		case "query", "header":
			description, _ := p["description"].(string)
			r.Parameters = append(r.Parameters, Parameter{Name: name, In: in, Description: description})
		case "body":
			r.Parameters = append(r.Parameters, Parameter{In: in, Body: p["schema"]})
		}
	}
	for code, s := range o.Responses {
		if n, err := strconv.Atoi(code); err == nil {
			r.responses[n] = response{s.Schema}
		}
	}
	return r
}

// Find returns the operation that serves a path without version prefix, nil
// for none.
func (d *Definition) Find(method, path string) *Operation {
	segments := strings.Split(path, "/")
	var best *Operation
	for _, o := range d.Operations {
		if o.Method == method && matches(strings.Split(o.Path, "/"), segments) && (best == nil || o.literal() > best.literal()) {
			best = o
		}
	}
	return best
}

// literal counts the characters that are no variable.
func (o *Operation) literal() int {
	n := 0
	for _, s := range strings.Split(o.Path, "/") {
		if !isVariable(s) {
			n += len(s)
		}
	}
	return n
}

func isVariable(segment string) bool { return strings.HasPrefix(segment, "{") }

// matches says whether a path is one of a pattern; names of images and
// plugins may have slashes, and so have those of links, which mean containers.
func matches(pattern, path []string) bool {
	switch {
	case len(pattern) == 0:
		return len(path) == 0
	case len(path) == 0:
		return false
	case pattern[0] == "{name}", pattern[0] == "{id}":
		return slices.ContainsFunc(indexes(len(path)), func(i int) bool { return matches(pattern[1:], path[i+1:]) })
	case !isVariable(pattern[0]) && pattern[0] != path[0]:
		return false
	}
	return matches(pattern[1:], path[1:])
}

func indexes(n int) []int {
	all := make([]int, n)
	for i := range all {
		all[i] = i
	}
	return all
}

// Statuses are the documented status codes, in order.
func (o *Operation) Statuses() []int {
	var all []int
	for s := range o.responses {
		all = append(all, s)
	}
	slices.Sort(all)
	return all
}

// HasSchema says whether the definition describes the body of such an answer.
func (o *Operation) HasSchema(status int) bool { return o.responses[status].schema != nil }

// Check judges the body of an answer, a JSON value, and returns what is wrong
// with it, an entry for each place. What dockerd does all the same is not told.
func (o *Operation) Check(status int, body any) ([]string, error) {
	if !o.HasSchema(status) {
		return nil, nil
	}
	o.of.mu.Lock()
	sch, err := o.of.compiler.Compile(o.location(status))
	o.of.mu.Unlock()
	if err != nil {
		return nil, err
	}
	err = sch.Validate(body)
	if v, ok := errors.AsType[*jsonschema.ValidationError](err); ok {
		return slices.DeleteFunc(faults(v), func(f string) bool { return o.forgiven(status, f) }), nil
	}
	return nil, err
}

// faults lists the innermost causes. Of what may be null, too, the value's
// own are told.
func faults(v *jsonschema.ValidationError) []string {
	causes := v.Causes
	if _, ok := v.ErrorKind.(*kind.AnyOf); ok && len(causes) > 1 {
		causes = causes[:1]
	}
	if len(causes) == 0 {
		text := v.Error()
		if _, after, ok := strings.Cut(text, "\n- "); ok {
			text = after
		}
		return []string{strings.TrimSpace(text)}
	}
	var all []string
	for _, c := range causes {
		all = append(all, faults(c)...)
	}
	return all
}
