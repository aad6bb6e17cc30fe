package apiserver

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// A request that panics is answered with 500 while that is possible; an answer
// that has begun is cut, so that nobody takes a part of it for all.
func TestPanics(t *testing.T) {
	handlers := map[string]func(*Server, context.Context, *request) (response, error){
		"/early": func(*Server, context.Context, *request) (response, error) { panic("early") },
		"/late": func(*Server, context.Context, *request) (response, error) {
			return responseFunc(func(w http.ResponseWriter, _ *http.Request) error {
				_, _ = io.WriteString(newFlushed(w), "half of ")
				panic("late")
			}), nil
		},
	}
	mux := http.NewServeMux()
	for path, h := range handlers {
		mux.Handle(path, (&Server{}).serve(route{handle: h}))
	}
	server := httptest.NewServer(mux)
	defer server.Close()
	get := func(path string) (*http.Response, string, error) {
		resp, err := http.Get(server.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		return resp, string(b), err
	}
	if resp, body, err := get("/early"); err != nil || resp.StatusCode != 500 || !strings.Contains(body, `"message"`) {
		t.Errorf("before the answer: %d %q, %v", resp.StatusCode, body, err)
	}
	if _, body, err := get("/late"); err == nil || body != "half of " {
		t.Errorf("in the answer: %q, %v; want it to break off", body, err)
	}
}
