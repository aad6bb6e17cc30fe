package harness

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/kelp-engine/kelp/test/apidef"
)

// maxJudged is how much of a body is looked at.
const maxJudged = 8 << 20

// judge holds answers against the API's definition.
type judge struct {
	mu     sync.Mutex
	faults []string
}

// list returns what was wrong so far, once each.
func (j *judge) list() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	slices.Sort(j.faults)
	return slices.Compact(j.faults)
}

func (j *judge) add(format string, args ...any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.faults = append(j.faults, fmt.Sprintf(format, args...))
}

// read judges the answers to requests on one connection.
func (j *judge) read(from io.Reader, requests <-chan *http.Request) {
	in := bufio.NewReader(from)
	for r := range requests {
		a, err := http.ReadResponse(in, r)
		for err == nil && a.StatusCode == http.StatusContinue {
			a, err = http.ReadResponse(in, r)
		}
		if err != nil {
			return // it broke off
		}
		if a.StatusCode == http.StatusSwitchingProtocols {
			j.answer(r, a, nil)
			return
		}
		body, err := io.ReadAll(io.LimitReader(a.Body, maxJudged+1))
		if err == nil && len(body) <= maxJudged {
			j.answer(r, a, body)
		}
		if _, err := io.Copy(io.Discard, a.Body); err != nil {
			return
		}
	}
}

var versioned = regexp.MustCompile(`^/v([0-9]+\.[0-9]+)(/.*)$`)

// answer judges one.
func (j *judge) answer(r *http.Request, a *http.Response, body []byte) {
	version, path := apidef.Newest, r.URL.EscapedPath()
	if m := versioned.FindStringSubmatch(path); m != nil {
		version, path = m[1], m[2]
	}
	d, err := definition(version)
	if errors.Is(err, os.ErrNotExist) && a.StatusCode == http.StatusBadRequest {
		return // there is no such version
	}
	if err != nil {
		j.add("%v", err)
		return
	}
	o := d.Find(r.Method, path)
	if o == nil {
		if a.StatusCode != http.StatusNotFound && !apidef.Extra(r.Method, path) {
			j.add("%s %s: %d: the API has no such endpoint", r.Method, path, a.StatusCode)
		}
		return
	}
	name := fmt.Sprintf("v%s %s %s: %d", version, o.Method, o.Path, a.StatusCode)
	if fault := o.CheckStatus(a.StatusCode); fault != "" {
		j.add("%s: %s: %.200s", name, fault, body)
	}
	if r.Method == http.MethodHead || len(body) == 0 && !o.HasSchema(a.StatusCode) {
		return
	}
	media, _, _ := mime.ParseMediaType(a.Header.Get("Content-Type"))
	if apidef.IsError(a.StatusCode) || o.HasSchema(a.StatusCode) && strings.Contains(media, "json") {
		j.documents(name, o, a.StatusCode, body)
	}
}

// documents judges a body of one JSON document, or of many.
func (j *judge) documents(name string, o *apidef.Operation, status int, body []byte) {
	for _, text := range split(body) {
		v, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
		if err != nil {
			j.add("%s: no JSON: %v: %.200s", name, err, text)
			return
		}
		if e, ok := v.(map[string]any); apidef.IsError(status) && (!ok || e["message"] == nil) {
			j.add("%s: an error without message: %s", name, text)
		}
		faults, err := o.Check(status, v)
		if err != nil {
			j.add("%s: %v", name, err)
		}
		for _, f := range faults {
			j.add("%s: %s", name, f)
		}
	}
}

// split separates documents: lines, or the items of a JSON text sequence.
func split(body []byte) [][]byte {
	var all [][]byte
	for _, text := range bytes.FieldsFunc(body, func(r rune) bool { return r == '\n' || r == 0x1e }) {
		if text = bytes.TrimSpace(text); len(text) > 0 {
			all = append(all, text)
		}
	}
	return all
}

// Definitions is the directory of the API's definitions.
func Definitions() string { return filepath.Join(os.Getenv(baseEnv), "api") }

// definitions that were read, by version.
var definitions struct {
	sync.Mutex
	of map[string]*apidef.Definition
}

// atLeast compares versions of the form 1.NN.
func atLeast(version, other string) bool {
	return len(version) > len(other) || len(version) == len(other) && version >= other
}

// definition returns that of a version. Of 1.24 there is none that machines
// can read; 1.25 is the nearest. dockerd tells old clients fields that came
// later, so that only newer versions are held to the very fields.
func definition(version string) (*apidef.Definition, error) {
	definitions.Lock()
	defer definitions.Unlock()
	if d := definitions.of[version]; d != nil {
		return d, nil
	}
	read := version
	if version == "1.24" {
		read = "1.25"
	}
	d, err := apidef.Load(Definitions(), read, atLeast(version, "1.48"))
	if err != nil {
		return nil, err
	}
	if definitions.of == nil {
		definitions.of = map[string]*apidef.Definition{}
	}
	definitions.of[version] = d
	return d, nil
}
