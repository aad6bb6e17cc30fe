package coverage

import (
	"fmt"
	"slices"
	"strings"

	"github.com/kelp-engine/kelp/test/apidef"
)

// Row is an endpoint, a parameter or a field, with its fate.
type Row struct {
	// Name is its name in the table.
	Name string
	// Operation is the endpoint, or the first one that has the field.
	Operation *apidef.Operation
	// Parameter is "" for an endpoint and a field.
	Parameter string
	// Path leads to a field from the body; it is nil for all else.
	Path []string
	Fate
}

// Rows lists all that the definition has, each endpoint followed by its
// parameters and by the fields of its body that came in none before. Of an
// endpoint that is absent, and of what is refused or noted, the parts are not
// listed.
func Rows(d *apidef.Definition, fates map[string]Fate) []Row {
	var rows []Row
	seen := map[string]bool{}
	for _, o := range d.Operations {
		name := o.Method + " " + o.Path
		fate := fates[name]
		rows = append(rows, Row{Name: name, Operation: o, Fate: fate})
		unbuilt := slices.Contains(unbuiltTags, o.Tag) || strings.HasPrefix(o.Path, "/build")
		if unbuilt {
			continue
		}
		for _, p := range o.Parameters {
			if p.In != "body" {
				n := name + " " + p.Name
				rows = append(rows, Row{Name: n, Operation: o, Parameter: p.Name, Fate: fates[n]})
			}
		}
		skip := func(n string) bool { return fates[n].Kind == Refused || fates[n].Kind == Noted }
		for _, f := range o.Fields(skip) {
			if !seen[f.Name] {
				seen[f.Name] = true
				rows = append(rows, Row{Name: f.Name, Operation: o, Path: f.Path, Fate: fates[f.Name]})
			}
		}
	}
	return rows
}

// unbuiltTags are the kinds of objects that kelp does not have yet.
var unbuiltTags = []string{"Plugin", "Node", "Swarm", "Service", "Task", "Secret", "Config", "Session"}

// Document is docs/api.md.
func Document(d *apidef.Definition, fates map[string]Fate) string {
	var b strings.Builder
	fmt.Fprintf(&b, `# The Engine API, endpoint by endpoint

What kelp does with each endpoint, parameter and field of the Engine API %s, as its definition names them. This file is
generated: 'go test ./test/coverage -update' writes it from test/coverage/table.txt, and a test fails when the definition has
something that is not here, when a test that is named does not exist, or when what is said to be refused is not.

*Honoured* names the test that shows it. *Refused* is answered with the status and the words given. *Noted* is taken, recorded and
shown as dockerd does, for there is nothing to do with it.
`, apidef.Newest)
	rows := Rows(d, fates)
	var tags []string
	for _, r := range rows {
		if !slices.Contains(tags, r.Operation.Tag) {
			tags = append(tags, r.Operation.Tag)
		}
	}
	slices.SortStableFunc(tags, func(a, b string) int { return unbuilt(a) - unbuilt(b) })
	for _, tag := range tags {
		fmt.Fprintf(&b, "\n## %s\n\n| | | |\n|---|---|---|\n", tag)
		for _, r := range rows {
			if r.Operation.Tag == tag {
				b.WriteString(r.line())
			}
		}
	}
	b.WriteString("\n## Where answers differ from the definition\n\n" +
		"Every answer that the tests get is held against the definition of the version that the client speaks. This is allowed:\n\n| what | why |\n|---|---|\n")
	for _, e := range apidef.Exceptions {
		fmt.Fprintf(&b, "| %s | %s |\n", e.What, e.Why)
	}
	return b.String()
}

func unbuilt(tag string) int { return slices.Index(unbuiltTags, tag) }

func (r Row) line() string {
	name := "**" + r.Name + "**"
	switch {
	case r.Parameter != "":
		name = "· " + r.Parameter
	case r.Path != nil:
		name = "· · " + r.Name
	}
	what := map[Kind]string{
		Honoured: "honoured",
		Noted:    "noted",
		Refused:  fmt.Sprintf("refused, %d", r.Status),
		Absent:   fmt.Sprintf("answered with %d", r.Status),
	}[r.Kind]
	how := r.Text
	if r.Kind == Honoured {
		how = "`" + r.File() + "`"
	}
	return fmt.Sprintf("| %s | %s | %s |\n", name, what, strings.ReplaceAll(how, "|", "\\|"))
}
