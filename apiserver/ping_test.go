package apiserver

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

func TestPing(t *testing.T) {
	h := New(nil).handler()
	for _, path := range []string{"/_ping", "/v1.24/_ping", "/v1.56/_ping"} {
		for method, body := range map[string]string{http.MethodGet: "OK", http.MethodHead: ""} {
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequest(method, path, nil))
			head := w.Header()
			if w.Code != 200 || w.Body.String() != body || head.Get("Api-Version") != MaxAPIVersion || head.Get("Ostype") != "linux" ||
				head.Get("Docker-Experimental") != "false" || head.Get("Swarm") != "inactive" || head.Get("Cache-Control") == "" {
				t.Errorf("%s %s: %d %q %v", method, path, w.Code, w.Body, head)
			}
		}
	}
	for path, status := range map[string]int{"/v1.23/_ping": 400, "/v1.57/_ping": 400, "/nowhere": 404, "/services": 503, "/build": 404} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		if w.Code != status {
			t.Errorf("%s: %d, want %d", path, w.Code, status)
		}
	}
}

func BenchmarkPing(b *testing.B) {
	h := New(nil).handler()
	r := httptest.NewRequest(http.MethodHead, "/v1.44/_ping", nil)
	for b.Loop() {
		h.ServeHTTP(httptest.NewRecorder(), r)
	}
}
