package api

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/websocket"
)

// asksUpgrade are the headers with which the docker client asks for a hijack.
var asksUpgrade = []string{"Connection: Upgrade", "Upgrade: tcp"}

// demux splits a multiplexed stream into stdout and stderr.
func demux(t *testing.T, r io.Reader) (stdout, stderr string) {
	t.Helper()
	streams := map[byte]*bytes.Buffer{1: {}, 2: {}}
	for {
		var head [8]byte
		_, err := io.ReadFull(r, head[:])
		if errors.Is(err, io.EOF) {
			return streams[1].String(), streams[2].String()
		}
		if err != nil {
			t.Fatal(err)
		}
		to := streams[head[0]]
		if to == nil || head[1] != 0 || head[2] != 0 || head[3] != 0 {
			t.Fatalf("bad frame header % x", head)
		}
		if _, err := io.CopyN(to, r, int64(binary.BigEndian.Uint32(head[4:]))); err != nil {
			t.Fatal(err)
		}
	}
}

func testAttachFraming(t *testing.T, s *server) {
	id := s.create(t, object{
		"Cmd": []string{"sh", "-c", "read x; echo out $x; echo err $x >&2"}, "OpenStdin": true, "StdinOnce": true,
	})
	c := s.hijack(t, "/containers/"+id+"/attach?stream=1&stdin=1&stdout=1&stderr=1", asksUpgrade...)
	if c.status != http.StatusSwitchingProtocols || c.header.Get("Content-Type") != "application/vnd.docker.multiplexed-stream" {
		t.Fatalf("attach answered %d, %q", c.status, c.header.Get("Content-Type"))
	}
	s.do(t, "POST", "/containers/"+id+"/start", nil).want(t, http.StatusNoContent)
	fmt.Fprintln(c, "kelp")
	if stdout, stderr := demux(t, c); stdout != "out kelp\n" || stderr != "err kelp\n" {
		t.Errorf("stdout %q, stderr %q", stdout, stderr)
	}

	id = s.create(t, object{"Cmd": []string{"sh", "-c", "read x; echo out"}, "OpenStdin": true, "Tty": true})
	c = s.hijack(t, "/containers/"+id+"/attach?stream=1&stdin=1&stdout=1&stderr=1", asksUpgrade...)
	if got := c.header.Get("Content-Type"); got != "application/vnd.docker.raw-stream" {
		t.Errorf("a terminal's stream is %q", got)
	}
	s.do(t, "POST", "/containers/"+id+"/start", nil).want(t, http.StatusNoContent)
	fmt.Fprint(c, "kelp\r")
	b, err := io.ReadAll(c)
	if err != nil || !strings.HasSuffix(string(b), "out\r\n") {
		t.Errorf("a terminal's stream is %q (%v)", b, err)
	}
	// Clients before 1.42 know only raw-stream.
	id = s.create(t, object{"Cmd": []string{"true"}})
	c = s.hijack(t, "/v1.41/containers/"+id+"/attach?stream=1&stdout=1", asksUpgrade...)
	if got := c.header.Get("Content-Type"); got != "application/vnd.docker.raw-stream" {
		t.Errorf("for 1.41 the stream is %q", got)
	}
}

func testAttachPlain(t *testing.T, s *server) {
	id := s.create(t, object{"Cmd": []string{"echo", "hello"}})
	c := s.hijack(t, "/containers/"+id+"/attach?stream=1&stdout=1")
	if c.status != http.StatusOK {
		t.Fatalf("attach without Upgrade answered %d", c.status)
	}
	s.do(t, "POST", "/containers/"+id+"/start", nil).want(t, http.StatusNoContent)
	if stdout, _ := demux(t, c); stdout != "hello\n" {
		t.Errorf("stdout %q", stdout)
	}
	s.do(t, "POST", "/containers/nobody/attach?stream=1&stdout=1", nil).want(t, http.StatusNotFound)
}

func testWebsocket(t *testing.T, s *server) {
	id := s.create(t, object{"Cmd": []string{"sh", "-c", "read x; echo out $x"}, "OpenStdin": true})
	conn, err := net.Dial("unix", s.Tapped)
	if err != nil {
		t.Fatal(err)
	}
	config, err := websocket.NewConfig("ws://kelp/containers/"+id+"/attach/ws?stream=1&stdin=1&stdout=1", "http://kelp")
	if err != nil {
		t.Fatal(err)
	}
	ws, err := websocket.NewClient(config, conn)
	if err != nil {
		t.Fatal(err)
	}
	defer ws.Close()
	if err := ws.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	s.do(t, "POST", "/containers/"+id+"/start", nil).want(t, http.StatusNoContent)
	if _, err := io.WriteString(ws, "kelp\n"); err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(ws)
	if err != nil || string(b) != "out kelp\n" {
		t.Errorf("the websocket gave %q (%v)", b, err)
	}
}

func testDetachKeys(t *testing.T, s *server) {
	id := s.start(t, object{"Cmd": []string{"cat"}, "OpenStdin": true, "Tty": true})
	c := s.hijack(t, "/containers/"+id+"/attach?stream=1&stdin=1&stdout=1&detachKeys=ctrl-a,b", asksUpgrade...)
	fmt.Fprint(c, "x\x01\x01b")
	if _, err := io.ReadAll(c); err != nil {
		t.Fatalf("the detach keys did not end the stream: %v", err)
	}
	if a := s.do(t, "GET", "/containers/"+id+"/json", nil); !strings.Contains(a.body, `"Running":true`) {
		t.Errorf("the container does not run on: %s", a.body)
	}
	s.do(t, "POST", "/containers/"+id+"/attach?detachKeys=ctrl-nonsense", nil).want(t, http.StatusBadRequest)
}

func testLogsFraming(t *testing.T, s *server) {
	id := s.start(t, object{"Cmd": []string{"sh", "-c", "echo out; echo err >&2"}})
	s.do(t, "POST", "/containers/"+id+"/wait", nil).want(t, http.StatusOK)
	a := s.do(t, "GET", "/containers/"+id+"/logs?stdout=1&stderr=1", nil).want(t, http.StatusOK)
	if stdout, stderr := demux(t, strings.NewReader(a.body)); stdout != "out\n" || stderr != "err\n" {
		t.Errorf("stdout %q, stderr %q", stdout, stderr)
	}
	s.do(t, "GET", "/containers/"+id+"/logs", nil).want(t, http.StatusBadRequest) // neither stream asked for
	id = s.start(t, object{"Cmd": []string{"echo", "out"}, "Tty": true})
	s.do(t, "POST", "/containers/"+id+"/wait", nil).want(t, http.StatusOK)
	if a := s.do(t, "GET", "/containers/"+id+"/logs?stdout=1", nil); a.body != "out\r\n" {
		t.Errorf("a terminal's log is %q", a.body)
	}
}

func testWait(t *testing.T, s *server) {
	id := s.create(t, object{"Cmd": []string{"sh", "-c", "exit 3"}, "HostConfig": object{"NetworkMode": "none", "AutoRemove": true}})
	type end struct {
		condition string
		answer    answer
	}
	ends := make(chan end, 2)
	for _, condition := range []string{"next-exit", "removed"} {
		// The header arrives once the wait has begun, so start may follow.
		began := make(chan struct{})
		go func() {
			resp, err := s.http.Post("http://kelp/containers/"+id+"/wait?condition="+condition, "", nil)
			close(began)
			if err != nil {
				ends <- end{condition, answer{body: err.Error()}}
				return
			}
			defer resp.Body.Close()
			b, _ := io.ReadAll(resp.Body)
			ends <- end{condition, answer{status: resp.StatusCode, body: string(b)}}
		}()
		<-began
	}
	s.do(t, "POST", "/containers/"+id+"/start", nil).want(t, http.StatusNoContent)
	for range 2 {
		e := <-ends
		if e.answer.status != http.StatusOK || !strings.Contains(e.answer.body, `"StatusCode":3`) {
			t.Errorf("wait for %s: %d %s", e.condition, e.answer.status, e.answer.body)
		}
	}
	s.do(t, "GET", "/containers/"+id+"/json", nil).want(t, http.StatusNotFound)
	id = s.create(t, object{"Cmd": []string{"true"}})
	s.do(t, "POST", "/containers/"+id+"/wait", nil).want(t, http.StatusOK) // not running: at once
	s.do(t, "POST", "/containers/"+id+"/wait?condition=sometime", nil).want(t, http.StatusBadRequest)
}

func testArchiveStat(t *testing.T, s *server) {
	id := s.create(t, object{"Cmd": []string{"true"}})
	a := s.do(t, "HEAD", "/containers/"+id+"/archive?path=/bin/sh", nil).want(t, http.StatusOK)
	b, err := base64.StdEncoding.DecodeString(a.header.Get("X-Docker-Container-Path-Stat"))
	if err != nil {
		t.Fatal(err)
	}
	var st struct {
		Name       string      `json:"name"`
		Size       int64       `json:"size"`
		Mode       os.FileMode `json:"mode"`
		Mtime      time.Time   `json:"mtime"`
		LinkTarget string      `json:"linkTarget"`
	}
	if err := json.Unmarshal(b, &st); err != nil {
		t.Fatal(err)
	}
	if st.Name != "sh" || st.Mode&os.ModeSymlink == 0 || st.LinkTarget != "/bin/busybox" {
		t.Errorf("stat of a link: %+v", st)
	}
	s.do(t, "HEAD", "/containers/"+id+"/archive?path=/no/such", nil).want(t, http.StatusNotFound)
	s.do(t, "GET", "/containers/"+id+"/archive", nil).want(t, http.StatusBadRequest)
}
