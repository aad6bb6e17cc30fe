// Package api holds tests of what a client sees on the wire and the docker
// command line does not show: headers, framing, versions, status codes.
package api

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/kelp-engine/kelp/test/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }

// server is the kelp that the tests of this package share.
type server struct {
	*harness.Kelp
	http *http.Client
}

func TestAPI(t *testing.T) {
	k := newKelp(t)
	s := &server{k, k.HTTP()}
	for _, test := range []struct {
		name string
		run  func(*testing.T, *server)
	}{
		{"ping", testPing},
		{"versions", testVersions},
		{"unknown routes", testUnknownRoutes},
		{"every endpoint", testEveryEndpoint},
		{"refusals", testRefusals},
		{"documented filters", testDocumentedFilters},
		{"fields", testFields},
		{"health", testHealthFields},
		{"attach's parameters", testAttachParameters},
		{"no overwriting", testNoOverwrite},
		{"search", testSearch},
		{"bad bodies", testBadBodies},
		{"attach framing", testAttachFraming},
		{"attach upgrades only when asked", testAttachPlain},
		{"websocket attach", testWebsocket},
		{"detach keys", testDetachKeys},
		{"logs framing", testLogsFraming},
		{"wait conditions", testWait},
		{"archive stat", testArchiveStat},
		{"empty lists are lists", testEmptyLists},
		{"parallel lifecycles", testParallel},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, s) })
	}
	if err := k.CheckClean(t.Context()); err != nil {
		t.Error(err)
	}
}

// answer is a response that was read whole.
type answer struct {
	status int
	header http.Header
	body   string
}

// do makes a request; in, when not nil, is sent as JSON, or as it is when it
// is a string.
func (s *server) do(t *testing.T, method, path string, in any) answer {
	t.Helper()
	var body io.Reader
	switch in := in.(type) {
	case nil:
	case string:
		body = strings.NewReader(in)
	default:
		b, err := json.Marshal(in)
		if err != nil {
			t.Fatal(err)
		}
		body = bytes.NewReader(b)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, "http://kelp"+path, body)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := s.http.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, string(b)}
}

// want fails the test when the answer's status is another.
func (a answer) want(t *testing.T, status int) answer {
	t.Helper()
	if a.status != status {
		t.Fatalf("status %d, want %d: %s", a.status, status, a.body)
	}
	return a
}

type object map[string]any

// create makes a container of busybox that is removed with the test.
func (s *server) create(t *testing.T, config object) string {
	t.Helper()
	if config["Image"] == nil {
		config["Image"] = "busybox"
	}
	if config["HostConfig"] == nil {
		config["HostConfig"] = object{"NetworkMode": "none"}
	}
	var made struct {
		ID       string
		Warnings []string
	}
	a := s.do(t, "POST", "/containers/create", config).want(t, http.StatusCreated)
	if err := json.Unmarshal([]byte(a.body), &made); err != nil {
		t.Fatal(err)
	}
	s.removeLater(t, "/containers/"+made.ID+"?force=1&v=1")
	return made.ID
}

// removeLater deletes an object with the test.
func (s *server) removeLater(t *testing.T, path string) {
	t.Cleanup(func() {
		req, _ := http.NewRequest(http.MethodDelete, "http://kelp"+path, nil)
		if resp, err := s.http.Do(req); err == nil {
			resp.Body.Close()
		}
	})
}

// start creates and starts a container.
func (s *server) start(t *testing.T, config object) string {
	t.Helper()
	id := s.create(t, config)
	s.do(t, "POST", "/containers/"+id+"/start", nil).want(t, http.StatusNoContent)
	return id
}

// raw is a hijacked connection.
type raw struct {
	net.Conn
	r      *bufio.Reader
	status int
	header http.Header
}

// Read reads what followed the response's header.
func (c *raw) Read(b []byte) (int, error) { return c.r.Read(b) }

// hijack makes a request on a connection of its own and keeps it.
func (s *server) hijack(t *testing.T, path string, header ...string) *raw {
	t.Helper()
	conn, err := net.Dial("unix", s.Tapped)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	extra := ""
	for _, h := range header {
		extra += h + "\r\n"
	}
	fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: kelp\r\nContent-Length: 0\r\n%s\r\n", path, extra)
	r := bufio.NewReader(conn)
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	return &raw{conn, r, resp.StatusCode, resp.Header}
}
