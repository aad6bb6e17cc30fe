package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write the golden answers")

// TestGolden compares what clients lean on, headers and bodies, with the files
// in testdata. What differs from run to run is written as a word: an id as
// ID1, ID2, … in the order of their coming, a time as TIME.
//
// A change of a file is a change of what every client sees. Where the files
// follow dockerd and not the API's definition, docs/api.md says why.
func TestGolden(t *testing.T) {
	k := newKelp(t)
	g := &golden{server: &server{k, k.HTTP()}, ids: map[string]string{}}
	g.session(t)
	if err := k.CheckClean(t.Context()); err != nil {
		t.Error(err)
	}
}

type golden struct {
	*server
	ids map[string]string // and digests, to the words for them
}

// Ways to ask, and to write an answer down.
type way int

const (
	whole    way = iota
	shape        // of a JSON body, the types only: the values are the machine's
	hijacked     // on a connection of its own, until it ends
)

// session makes the requests; the order matters to ids and addresses.
func (g *golden) session(t *testing.T) {
	g.ask(t, "ping", "GET", "/_ping", nil)
	g.ask(t, "ping-head", "HEAD", "/_ping", nil)
	g.ask(t, "version", "GET", "/version", nil, shape)
	g.ask(t, "info", "GET", "/info", nil, shape)
	g.ask(t, "info-1.24", "GET", "/v1.24/info", nil, shape)
	g.ask(t, "too-old", "GET", "/v1.23/info", nil)
	g.ask(t, "no-such-page", "GET", "/v1.56/nowhere", nil)

	g.ask(t, "images", "GET", "/images/json", nil)
	g.ask(t, "images-1.42", "GET", "/v1.42/images/json", nil)
	g.ask(t, "image", "GET", "/images/busybox/json", nil)
	g.ask(t, "image-1.44", "GET", "/v1.44/images/busybox/json", nil)
	g.ask(t, "image-history", "GET", "/images/busybox/history", nil)
	g.ask(t, "image-missing", "GET", "/images/nothing/json", nil)
	g.ask(t, "image-tag", "POST", "/images/busybox/tag?repo=other&tag=1", nil)
	g.ask(t, "image-remove", "DELETE", "/images/other:1", nil)

	g.ask(t, "volume-create", "POST", "/volumes/create", object{"Name": "v1", "Labels": object{"a": "b"}})
	g.ask(t, "volume", "GET", "/volumes/v1", nil)
	g.ask(t, "volumes", "GET", "/volumes", nil)
	g.ask(t, "volume-missing", "GET", "/volumes/nothing", nil)

	g.ask(t, "network-create", "POST", "/networks/create", object{"Name": "n1", "IPAM": object{"Config": []object{{"Subnet": "10.99.0.0/24"}}}})
	g.ask(t, "network-create-again", "POST", "/networks/create", object{"Name": "n1"})
	g.ask(t, "networks", "GET", `/networks?filters={"name":["n1"]}`, nil)

	g.ask(t, "container-create", "POST", "/containers/create?name=c1", object{
		"Image": "busybox", "Cmd": []string{"sh", "-c", "echo out; echo err >&2; cat"}, "OpenStdin": true, "Hostname": "c1",
		"Labels": object{"l": "m"}, "HostConfig": object{"NetworkMode": "n1", "Binds": []string{"v1:/data"}},
	})
	g.ask(t, "container-create-again", "POST", "/containers/create?name=c1", object{"Image": "busybox"})
	g.ask(t, "container-create-no-image", "POST", "/containers/create", object{"Image": "nothing"})
	g.ask(t, "container-created", "GET", "/containers/c1/json", nil)
	g.ask(t, "container-start", "POST", "/containers/c1/start", nil)
	g.until(t, "what c1 says before its shell becomes cat", func() bool {
		return strings.Contains(g.do(t, "GET", "/containers/c1/logs?stderr=1", nil).body, "err")
	})
	g.ask(t, "container-start-again", "POST", "/containers/c1/start", nil)
	g.ask(t, "container", "GET", "/containers/c1/json", nil)
	g.ask(t, "container-1.43", "GET", "/v1.43/containers/c1/json", nil)
	g.ask(t, "containers", "GET", "/containers/json", nil)
	g.ask(t, "containers-1.43", "GET", "/v1.43/containers/json?size=1", nil)
	g.ask(t, "container-top", "GET", "/containers/c1/top?ps_args=-o%20args", nil)
	g.ask(t, "container-stats", "GET", "/containers/c1/stats?stream=false&one-shot=true", nil, shape)
	g.ask(t, "container-remove-running", "DELETE", "/containers/c1", nil)
	g.ask(t, "container-missing", "GET", "/containers/nothing/json", nil)
	g.ask(t, "network", "GET", "/networks/n1", nil)
	g.ask(t, "network-1.51", "GET", "/v1.51/networks/n1", nil)
	g.ask(t, "attach", "POST", "/containers/c1/attach?logs=1&stdout=1", nil, hijacked)
	g.ask(t, "attach-1.41", "POST", "/v1.41/containers/c1/attach?logs=1&stdout=1", nil, hijacked)

	exec := g.ask(t, "exec-create", "POST", "/containers/c1/exec", object{"Cmd": []string{"echo", "hello"}, "AttachStdout": true})
	var made struct{ ID string }
	if err := json.Unmarshal([]byte(exec.body), &made); err != nil {
		t.Fatal(err)
	}
	g.ask(t, "exec-start", "POST", "/exec/"+made.ID+"/start", object{}, hijacked)
	g.ask(t, "exec", "GET", "/exec/"+made.ID+"/json", nil)
	g.ask(t, "exec-missing", "GET", "/exec/nothing/json", nil)

	g.ask(t, "container-kill", "POST", "/containers/c1/kill", nil)
	g.ask(t, "container-wait", "POST", "/containers/c1/wait", nil)
	g.ask(t, "container-wait-1.29", "POST", "/v1.29/containers/c1/wait", nil)
	g.ask(t, "container-logs", "GET", "/containers/c1/logs?stdout=1", nil)
	g.ask(t, "container-changes", "GET", "/containers/c1/changes", nil)
	g.ask(t, "container-archive-head", "HEAD", "/containers/c1/archive?path=/etc/nothing", nil)
	g.ask(t, "container-remove", "DELETE", "/containers/c1?v=1", nil)
	g.ask(t, "network-remove", "DELETE", "/networks/n1", nil)
	g.ask(t, "network-remove-builtin", "DELETE", "/networks/bridge", nil)
	g.ask(t, "volume-remove", "DELETE", "/volumes/v1", nil)
	past := fmt.Sprintf("/events?since=1&until=%d.999&filters=", time.Now().Unix())
	g.ask(t, "events", "GET", past+`{"container":["c1"]}`, nil)
	g.ask(t, "events-1.51", "GET", "/v1.51"+past+`{"container":["c1"],"event":["start"]}`, nil)
	g.ask(t, "containers-prune", "POST", "/containers/prune", nil)
	g.ask(t, "df", "GET", "/system/df", nil, shape)
	g.ask(t, "df-1.51", "GET", "/v1.51/system/df", nil, shape)
	g.ask(t, "swarm", "GET", "/swarm", nil)
	g.ask(t, "bad-json", "POST", "/containers/create", "{")
	g.ask(t, "bad-filter", "GET", `/containers/json?filters={"colour":["red"]}`, nil)

	g.published(t)
	g.refusals(t)
}

// ask makes a request and compares the answer.
func (g *golden) ask(t *testing.T, name, method, path string, in any, ways ...way) answer {
	t.Helper()
	var a answer
	if slices.Contains(ways, hijacked) {
		c := g.hijack(t, path, "Upgrade: tcp", "Connection: Upgrade", "Content-Type: application/json")
		b, err := io.ReadAll(c)
		if err != nil {
			t.Fatal(err)
		}
		a = answer{c.status, c.header, string(b)}
	} else {
		a = g.do(t, method, path, in)
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s\n%d %s\n", method, ends.ReplaceAllString(path, "until=NOW"), a.status, http.StatusText(a.status))
	for _, h := range slices.Sorted(maps.Keys(a.header)) {
		if h != "Date" && h != "Content-Length" {
			fmt.Fprintf(&b, "%s: %s\n", h, strings.Join(a.header[h], ", "))
		}
	}
	b.WriteString("\n")
	g.body(&b, a, slices.Contains(ways, shape))
	g.compare(t, name, g.words(b.String()))
	return a
}

// body writes a body: JSON documents indented, streams quoted.
func (g *golden) body(b *bytes.Buffer, a answer, shapes bool) {
	d := json.NewDecoder(strings.NewReader(a.body))
	for a.body != "" {
		var v any
		if err := d.Decode(&v); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			fmt.Fprintf(b, "%q\n", a.body)
			return
		}
		if shapes {
			v = shapeOf(v)
		}
		enc := json.NewEncoder(b)
		enc.SetEscapeHTML(false)
		enc.SetIndent("", "  ")
		_ = enc.Encode(v)
	}
}

// shapeOf has types for values, and of a list what its first item is.
func shapeOf(v any) any {
	switch v := v.(type) {
	case map[string]any:
		delete(v, "Warnings") // some machines have cause for them
		for k := range v {
			v[k] = shapeOf(v[k])
		}
		return v
	case []any:
		if len(v) > 0 {
			return []any{shapeOf(v[0])}
		}
		return v
	case string:
		return "string"
	case float64:
		return "number"
	case bool:
		return "boolean"
	}
	return v
}

var (
	ends    = regexp.MustCompile(`until=[0-9.]+`)
	long    = regexp.MustCompile(`\b[0-9a-f]{64}\b`)
	unequal = []struct {
		re *regexp.Regexp
		to string
	}{
		{regexp.MustCompile(`"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+(Z|[+-][0-9:]+)"`), `"TIME"`},
		{regexp.MustCompile(`("(?:Created|time|timeNano)"): [0-9]+`), `$1: "TIME"`},
		{regexp.MustCompile(`("(?:Size|SharedSize|VirtualSize|SizeRootFs|SizeRw)"): [1-9][0-9]*`), `$1: "SIZE"`},
		{regexp.MustCompile(`("Pid"): [1-9][0-9]*`), `$1: "PID"`},
		{regexp.MustCompile(`("CgroupnsMode"): "(host|private)"`), `$1: "THE MACHINE'S"`},
		{regexp.MustCompile(`("Architecture"): "[a-z0-9]+"`), `$1: "ARCH"`},
		{regexp.MustCompile(`/proc/[0-9]+/fd/[0-9]+`), "/proc/PID/fd/N"},
		{regexp.MustCompile(`("Status"): "Up [^"]*?( \([a-z: ]+\))?"`), `$1: "Up TIME$2"`},
		{regexp.MustCompile(`,\s*"/sys/devices/system/cpu/cpu[0-9]+/thermal_throttle"`), ""},
		{regexp.MustCompile(`("HostPort"): "[0-9]+"`), `$1: "PORT"`},
		{regexp.MustCompile(`("PublicPort"): [0-9]+`), `$1: "PORT"`},
		{regexp.MustCompile(`(kelp/)[^ "]+ `), `${1}VERSION `},
	}
)

// words replaces what differs from run to run.
func (g *golden) words(text string) string {
	text = strings.ReplaceAll(text, g.Dir, "DIR")
	for _, u := range unequal {
		text = u.re.ReplaceAllString(text, u.to)
	}
	text = long.ReplaceAllStringFunc(text, func(id string) string {
		if g.ids[id] == "" {
			g.ids[id] = fmt.Sprintf("ID%d", len(g.ids)/2+1)
			g.ids[id[:12]] = g.ids[id] + "-SHORT"
		}
		return g.ids[id]
	})
	for id, word := range g.ids {
		if len(id) == 12 {
			text = strings.ReplaceAll(text, id, word)
		}
	}
	return text
}

func (g *golden) compare(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", "golden", name+".txt")
	if *update {
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(got), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s: there is no golden answer: run 'go test ./test/api -run Golden -update'", name)
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	gotLines, wantLines := strings.Split(got, "\n"), strings.Split(string(want), "\n")
	for i := range max(len(gotLines), len(wantLines)) {
		if i >= len(gotLines) || i >= len(wantLines) || gotLines[i] != wantLines[i] {
			t.Errorf("%s, line %d: the answer goes on\n%s\nwant\n%s", name, i+1, some(gotLines, i), some(wantLines, i))
			return
		}
	}
}

// some are a few lines from the i-th on.
func some(lines []string, i int) string {
	i = min(i, len(lines))
	return strings.Join(lines[i:min(i+6, len(lines))], "\n")
}
