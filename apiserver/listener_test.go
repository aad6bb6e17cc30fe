package apiserver

import (
	"context"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
)

// TestNoPort has a listener on a port, as a socket unit may hand over, turn
// everybody away, and one on a unix socket let its user in.
func TestNoPort(t *testing.T) {
	for network, address := range map[string]string{"tcp4": "127.0.0.1:0", "unix": filepath.Join(t.TempDir(), "s")} {
		l, err := net.Listen(network, address)
		if err != nil {
			t.Fatal(err)
		}
		s := New(nil)
		served := make(chan error, 1)
		go func() { served <- s.Serve(l) }()
		client := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, l.Addr().String())
		}}}
		answer, err := client.Get("http://kelp/nothing")
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(answer.Body)
		answer.Body.Close()
		want, words := http.StatusNotFound, "page not found"
		if network == "tcp4" {
			want, words = http.StatusForbidden, "nobody else"
		}
		if answer.StatusCode != want || !strings.Contains(string(body), words) {
			t.Errorf("%s: %s: %s", network, answer.Status, body)
		}
		if err := s.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		if err := <-served; err != nil {
			t.Error(err)
		}
	}
}
