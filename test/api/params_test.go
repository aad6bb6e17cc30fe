package api

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/websocket"

	"github.com/kelp-engine/kelp/test/harness"
)

// until waits for check to hold.
func (s *server) until(t *testing.T, what string, check func() bool) {
	t.Helper()
	if err := harness.Until(t.Context(), 30*time.Second, what, func() error {
		if !check() {
			return errors.New("not yet")
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

// websocket attaches to a container over a websocket.
func (s *server) websocket(t *testing.T, id, query string) *websocket.Conn {
	t.Helper()
	conn, err := net.Dial("unix", s.Tapped)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	config, err := websocket.NewConfig("ws://kelp/containers/"+id+"/attach/ws?"+query, "http://kelp")
	if err != nil {
		t.Fatal(err)
	}
	ws, err := websocket.NewClient(config, conn)
	if err != nil {
		t.Fatal(err)
	}
	_ = ws.SetDeadline(time.Now().Add(time.Minute))
	return ws
}

// testAttachParameters holds that each stream is attached only when it is
// asked for, that logs come first, and that the keys detach.
func testAttachParameters(t *testing.T, s *server) {
	id := s.start(t, object{"Tty": false, "OpenStdin": true, "Cmd": []string{"sh", "-c", "echo first; while read x; do echo out-$x; echo err-$x >&2; done"}})
	s.until(t, "the container writes", func() bool {
		return strings.Contains(s.do(t, "GET", "/containers/"+id+"/logs?stdout=1", nil).body, "first")
	})
	read := func(ws *websocket.Conn, until string) string {
		t.Helper()
		var all []byte
		for buf := make([]byte, 4096); !strings.Contains(string(all), until); {
			n, err := ws.Read(buf)
			if err != nil {
				t.Fatalf("%v after %q", err, all)
			}
			all = append(all, buf[:n]...)
		}
		return string(all)
	}
	errOnly := s.websocket(t, id, "stream=1&stderr=1")
	outOnly := s.websocket(t, id, "stream=1&stdout=1&logs=1")
	both := s.websocket(t, id, "stream=1&stdin=1&stdout=1&stderr=1&detachKeys=ctrl-x")
	s.until(t, "all are attached", func() bool {
		past := fmt.Sprintf(`/events?since=1&until=%d.999&filters={"event":["attach"],"container":[%q]}`, time.Now().Unix(), id)
		return strings.Count(s.do(t, "GET", past, nil).body, `"Action":"attach"`) == 3
	})
	if got := read(outOnly, "first"); got != "first\n" {
		t.Errorf("logs=1: %q", got)
	}
	if _, err := both.Write([]byte("a\n")); err != nil {
		t.Fatal(err)
	}
	if got := read(outOnly, "a"); got != "out-a\n" {
		t.Errorf("stdout alone: %q", got)
	}
	if got := read(errOnly, "a"); got != "err-a\n" {
		t.Errorf("stderr alone: %q", got)
	}

	tty := s.start(t, object{"Tty": true, "OpenStdin": true, "Cmd": []string{"cat"}})
	ws := s.websocket(t, tty, "stream=1&stdin=1&stdout=1&detachKeys=ctrl-x")
	if _, err := ws.Write([]byte{'x' - 'a' + 1}); err != nil {
		t.Fatal(err)
	}
	for buf := make([]byte, 64); ; {
		if _, err := ws.Read(buf); err != nil {
			break
		}
	}
	if a := s.do(t, "GET", "/containers/"+tty+"/json", nil); !strings.Contains(a.body, `"Running":true`) {
		t.Errorf("detachKeys=ctrl-x did not detach: %s", a.body)
	}

	past := s.hijack(t, "/containers/"+id+"/attach?logs=1&stdout=1", "Upgrade: tcp", "Connection: Upgrade")
	var text bytes.Buffer
	if _, err := text.ReadFrom(past); err != nil || !strings.Contains(text.String(), "first") || strings.Contains(text.String(), "err-a") {
		t.Errorf("attach with logs=1 and no stream: %q, %v", text.String(), err)
	}
}

// testNoOverwrite holds that a file does not take a directory's place.
func testNoOverwrite(t *testing.T, s *server) {
	id := s.create(t, object{})
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&tar.Header{Name: "home", Mode: 0o600, Typeflag: tar.TypeReg, Size: 1}); err != nil {
		t.Fatal(err)
	}
	_, _ = w.Write([]byte("x"))
	w.Close()
	put := func(query string) answer {
		return s.do(t, "PUT", "/containers/"+id+"/archive?path=/"+query, b.String())
	}
	if a := put("&noOverwriteDirNonDir=1"); a.status != http.StatusBadRequest || !strings.Contains(a.body, "home") {
		t.Errorf("noOverwriteDirNonDir=1: %d %s", a.status, a.body)
	}
	put("&noOverwriteDirNonDir=0").want(t, http.StatusOK)
}

// testSearch searches a registry that this test plays.
func testSearch(t *testing.T, s *server) {
	registry := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v1/search" || r.URL.Query().Get("q") != "reef" {
			http.NotFound(w, r)
			return
		}
		_ = json.NewEncoder(w).Encode(object{"query": "reef", "num_results": 3, "results": []object{
			{"name": "reef/a", "description": "one", "star_count": 9, "is_official": true},
			{"name": "reef/b", "description": "two", "star_count": 3},
			{"name": "reef/c", "description": "three", "star_count": 7},
		}})
	}))
	defer registry.Close()
	term := "/images/search?term=" + strings.TrimPrefix(registry.URL, "http://") + "/reef"
	for query, want := range map[string][]string{
		"":                                  {"reef/a", "reef/b", "reef/c"},
		"&limit=2":                          {"reef/a", "reef/b"},
		`&filters={"is-official":["true"]}`: {"reef/a"},
		`&filters={"stars":["5"]}`:          {"reef/a", "reef/c"},
		`&filters={"stars":["5"],"is-official":["false"]}`: {"reef/c"},
	} {
		var found []struct{ Name string }
		a := s.do(t, "GET", term+query, nil).want(t, http.StatusOK)
		if err := json.Unmarshal([]byte(a.body), &found); err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, f := range found {
			names = append(names, f.Name)
		}
		if strings.Join(names, " ") != strings.Join(want, " ") {
			t.Errorf("%s: found %v, want %v", query, names, want)
		}
	}
	for _, query := range []string{"&limit=101", "&limit=x", `&filters={"stars":["many"]}`} {
		s.do(t, "GET", term+query, nil).want(t, http.StatusBadRequest)
	}
}
