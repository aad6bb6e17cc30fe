// Package registry runs a real container registry (distribution) inside the
// test process, on loopback: over http or https, open, with basic
// authentication, or with tokens from a token server of its own.
//
// It must not be used outside tests.
package registry

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/distribution/distribution/v3/configuration"
	_ "github.com/distribution/distribution/v3/registry/auth/htpasswd" // the "basic" scheme
	_ "github.com/distribution/distribution/v3/registry/auth/token"    // the "token" scheme
	"github.com/distribution/distribution/v3/registry/handlers"
	_ "github.com/distribution/distribution/v3/registry/storage/driver/filesystem" // where blobs are kept
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/sirupsen/logrus"
	"golang.org/x/crypto/bcrypt"

	"github.com/kelp-engine/kelp/test/images"
)

// The only account of a registry that asks for credentials.
const (
	User     = "diver"
	Password = "bladder-wrack"
)

// Auth is how a registry knows its clients.
type Auth string

// The ways to authenticate.
const (
	Open  Auth = ""
	Basic Auth = "basic"
	Token Auth = "token"
)

// Options for Start.
type Options struct {
	// Dir keeps the registry's blobs and keys. Two registries may share one:
	// fill it through an open one, then read it through one that asks.
	Dir  string
	TLS  bool
	Auth Auth
	// Slow, when set, is how long each blob's download is held back half way,
	// so that a test can interrupt it.
	Slow time.Duration
}

// Registry is a running registry.
type Registry struct {
	// Host is its address, "127.0.0.1:port".
	Host string
	// CAFile is the certificate to trust when it serves https, else "".
	CAFile string

	url    string
	server *http.Server
	app    *handlers.App
	// Requests counts the requests served so far.
	Requests atomic.Int64
	// Blobs counts the requests for configurations and layers.
	Blobs atomic.Int64
}

// Start runs a registry until Close.
func Start(ctx context.Context, o Options) (*Registry, error) {
	logrus.SetOutput(io.Discard)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	r := &Registry{Host: ln.Addr().String()}
	r.url = "http://" + r.Host
	if o.TLS {
		r.url = "https://" + r.Host
	}
	mux := http.NewServeMux()
	text := fmt.Sprintf(configText, filepath.Join(o.Dir, "blobs"))
	switch o.Auth {
	case Basic:
		path, err := writeHtpasswd(o.Dir)
		if err != nil {
			return nil, err
		}
		text += fmt.Sprintf("auth: {htpasswd: {realm: kelp-test, path: %q}}\n", path)
	case Token:
		issuer, err := newIssuer(o.Dir)
		if err != nil {
			return nil, err
		}
		mux.Handle("/token", issuer)
		text += fmt.Sprintf("auth: {token: {realm: %q, service: %q, issuer: %q, jwks: %q}}\n",
			r.url+"/token", service, issuerName, issuer.jwksFile)
	}
	config, err := configuration.Parse(strings.NewReader(text))
	if err != nil {
		return nil, fmt.Errorf("cannot configure the registry: %w", err)
	}
	r.app = handlers.NewApp(ctx, config)
	mux.Handle("/", r.app)
	r.server = &http.Server{Handler: r.count(slow(o.Slow, mux)), ReadHeaderTimeout: time.Minute}
	if o.TLS {
		var cert tls.Certificate
		if r.CAFile, cert, err = selfSigned(o.Dir); err != nil {
			return nil, err
		}
		r.server.TLSConfig = &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
		go r.server.ServeTLS(ln, "", "")
	} else {
		go r.server.Serve(ln)
	}
	return r, nil
}

const configText = `version: 0.1
log: {level: error, accesslog: {disabled: true}}
storage: {filesystem: {rootdirectory: %q}, delete: {enabled: true}, maintenance: {uploadpurging: {enabled: false}}}
http: {secret: kelp-test}
`

// Close stops the registry and drops its connections.
func (r *Registry) Close() error {
	return errors.Join(r.server.Close(), r.app.Shutdown())
}

// Push uploads an image to an open registry that serves http.
func (r *Registry) Push(ctx context.Context, recipe images.Recipe, repository, tag string) (ocispec.Descriptor, error) {
	l, d, err := recipe.Layout()
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	return d, l.Push(ctx, r.url, repository, tag, d)
}

func (r *Registry) count(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r.Requests.Add(1)
		if isBlob(req) {
			r.Blobs.Add(1)
		}
		next.ServeHTTP(w, req)
	})
}

func isBlob(req *http.Request) bool {
	return req.Method == http.MethodGet && strings.Contains(req.URL.Path, "/blobs/")
}

// slow holds each blob's download back after its first bytes.
func slow(d time.Duration, next http.Handler) http.Handler {
	if d == 0 {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if isBlob(req) {
			w = &slowWriter{ResponseWriter: w, ctx: req.Context(), wait: d}
		}
		next.ServeHTTP(w, req)
	})
}

type slowWriter struct {
	http.ResponseWriter
	ctx    context.Context
	wait   time.Duration
	waited bool
}

// Write implements io.Writer.
func (w *slowWriter) Write(b []byte) (int, error) {
	if w.waited || len(b) < 2 {
		return w.ResponseWriter.Write(b)
	}
	w.waited = true
	half := len(b) / 2
	n, err := w.ResponseWriter.Write(b[:half])
	if err != nil {
		return n, err
	}
	if f, ok := w.ResponseWriter.(http.Flusher); ok {
		f.Flush()
	}
	select {
	case <-time.After(w.wait):
	case <-w.ctx.Done():
		return n, w.ctx.Err()
	}
	m, err := w.ResponseWriter.Write(b[half:])
	return n + m, err
}

func writeHtpasswd(dir string) (string, error) {
	hash, err := bcrypt.GenerateFromPassword([]byte(Password), bcrypt.MinCost)
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "htpasswd")
	return path, os.WriteFile(path, fmt.Appendf(nil, "%s:%s\n", User, hash), 0o600)
}
