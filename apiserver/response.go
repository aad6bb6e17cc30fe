package apiserver

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
)

// response is what a handler answers with. An error from write that is no
// errStarted is answered as an error.
type response interface {
	write(w http.ResponseWriter, r *http.Request) error
}

// jsonResponse answers with a JSON document.
type jsonResponse struct {
	status int
	body   any
}

// ok answers 200 with v as JSON.
func ok(v any) response { return jsonResponse{http.StatusOK, v} }

// created answers 201 with v as JSON.
func created(v any) response { return jsonResponse{http.StatusCreated, v} }

func (j jsonResponse) write(w http.ResponseWriter, _ *http.Request) error {
	return writeJSON(w, j.status, j.body)
}

func writeJSON(w http.ResponseWriter, status int, v any) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if _, err := w.Write(b.Bytes()); err != nil {
		return errStarted{err}
	}
	return nil
}

// encodeLine writes v as JSON to an answer that has begun.
func encodeLine(w io.Writer, v any) error {
	if err := json.NewEncoder(w).Encode(v); err != nil {
		return errStarted{err}
	}
	return nil
}

// statusResponse answers with a status code and no body.
type statusResponse int

// noContent answers 204.
const noContent = statusResponse(http.StatusNoContent)

func (s statusResponse) write(w http.ResponseWriter, _ *http.Request) error {
	w.WriteHeader(int(s))
	return nil
}

// responseFunc answers with whatever the function writes: streams, archives,
// hijacked connections. Once it has written, it wraps its errors in errStarted.
type responseFunc func(w http.ResponseWriter, r *http.Request) error

func (f responseFunc) write(w http.ResponseWriter, r *http.Request) error { return f(w, r) }

// flushed writes each piece through to the client at once.
type flushed struct {
	w http.ResponseWriter
	c *http.ResponseController
}

func newFlushed(w http.ResponseWriter) io.Writer {
	return flushed{w, http.NewResponseController(w)}
}

func (f flushed) Write(p []byte) (int, error) {
	n, err := f.w.Write(p)
	if err != nil {
		return n, err
	}
	return n, f.c.Flush()
}
