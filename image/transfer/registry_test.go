package transfer

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/jsonstream"
	authtypes "github.com/moby/moby/api/types/registry"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/kelp-engine/kelp/image"
	"github.com/kelp-engine/kelp/test/images"
	"github.com/kelp-engine/kelp/test/registry"
)

func startRegistry(t *testing.T, o registry.Options) *registry.Registry {
	t.Helper()
	if o.Dir == "" {
		o.Dir = t.TempDir()
	}
	r, err := registry.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

var account = authtypes.AuthConfig{Username: registry.User, Password: registry.Password}

// TestPullPush pulls, retags and pushes back, through every way that a
// registry knows its clients.
func TestPullPush(t *testing.T) {
	blobs := t.TempDir()
	filler := startRegistry(t, registry.Options{Dir: blobs})
	recipe := images.Recipe{Name: "busybox", Format: "oci", Layer: images.Gzip, Extra: 2}
	pushed, err := filler.Push(t.Context(), recipe, "app", "1")
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range []registry.Options{
		{}, {TLS: true}, {Auth: registry.Basic}, {TLS: true, Auth: registry.Token}, {Auth: registry.Token},
	} {
		name := "http"
		if o.TLS {
			name = "tls"
		}
		t.Run(name+"-"+string(o.Auth), func(t *testing.T) {
			o.Dir = blobs
			r := startRegistry(t, o)
			m, dir := newManager(t)
			m.o.CertDirs = nil
			ref := r.Host + "/app:1"
			if o.Auth != registry.Open {
				before := files(t, dir)
				for _, bad := range []authtypes.AuthConfig{{}, {Username: registry.User, Password: "wrong"}} {
					err := m.Pull(t.Context(), PullOptions{Reference: ref, Auth: bad}, func(jsonstream.Message) {})
					if !errdefs.IsNotFound(err) || !strings.Contains(err.Error(), "repository does not exist or may require 'docker login'") {
						t.Errorf("pull with %q gives %v", bad.Password, err)
					}
				}
				if len(files(t, dir)) != len(before) {
					t.Error("a refused pull leaves files")
				}
				if err := m.Login(t.Context(), authtypes.AuthConfig{Username: "x", Password: "y", ServerAddress: r.Host}); !errdefs.IsUnauthorized(err) {
					t.Errorf("login with a wrong password gives %v", err)
				}
				a := account
				a.ServerAddress = r.Host
				if err := m.Login(t.Context(), a); err != nil {
					t.Error(err)
				}
			}
			var msgs messages
			if err := m.Pull(t.Context(), PullOptions{Reference: ref, Auth: account}, msgs.add); err != nil {
				t.Fatal(err)
			}
			text := msgs.text()
			for _, want := range []string{"1 Pulling from app\n", "Pull complete", "Digest: " + pushed.Digest.String(), "Status: Downloaded newer image for " + ref} {
				if !strings.Contains(text, want) {
					t.Errorf("pull says\n%swant %q", text, want)
				}
			}
			im, err := m.store.Resolve(t.Context(), ref)
			if err != nil {
				t.Fatal(err)
			}
			if want := r.Host + "/app@" + pushed.Digest.String(); len(im.RepoDigests) != 1 || im.RepoDigests[0] != want {
				t.Errorf("digests are %q, want %s", im.RepoDigests, want)
			}
			testUpToDate(t, m, ref)
			testPushBack(t, m, r.Host, im, pushed)
			d, err := m.Inspect(t.Context(), ref, account)
			if err != nil || d.Descriptor.Digest != pushed.Digest || len(d.Platforms) != 1 || d.Platforms[0].Architecture != "amd64" {
				t.Errorf("distribution says %+v, %v", d, err)
			}
		})
	}
}

func testUpToDate(t *testing.T, m *Manager, ref string) {
	var msgs messages
	if err := m.Pull(t.Context(), PullOptions{Reference: ref, Auth: account}, msgs.add); err != nil {
		t.Fatal(err)
	}
	if text := msgs.text(); !strings.Contains(text, "Status: Image is up to date for "+ref) || strings.Contains(text, "Downloading") {
		t.Errorf("a second pull says\n%s", text)
	}
}

// testPushBack pushes what was pulled under a new name, whose digest stays;
// then what was committed on top, whose new layer only is sent.
func testPushBack(t *testing.T, m *Manager, host string, im *image.Image, pulled ocispec.Descriptor) {
	back := host + "/app:back"
	if err := m.store.Tag(t.Context(), im.ID, back); err != nil {
		t.Fatal(err)
	}
	var msgs messages
	if err := m.Push(t.Context(), PushOptions{Reference: back, Auth: account}, msgs.add); err != nil {
		t.Fatal(err)
	}
	if text := msgs.text(); !strings.Contains(text, "back: digest: "+pulled.Digest.String()) || strings.Contains(text, "Pushed") {
		t.Errorf("push says\n%swant the digest %s", text, pulled.Digest)
	}
	elsewhere := host + "/other/app:1"
	if err := m.store.Tag(t.Context(), im.ID, elsewhere); err != nil {
		t.Fatal(err)
	}
	if err := m.Push(t.Context(), PushOptions{Reference: elsewhere, Auth: account}, msgs.add); err != nil {
		t.Fatal(err)
	}
	if err := m.store.CreateRootFS(t.Context(), "c", im.ID, false, image.Shift{}); err != nil {
		t.Fatal(err)
	}
	dir, err := m.store.MountRootFS("c")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir+"/etc/new", []byte("new"), 0o600); err != nil {
		t.Fatal(err)
	}
	committed := host + "/other/app:committed"
	if _, err := m.store.Commit(t.Context(), "c", image.CommitOptions{Reference: committed}); err != nil {
		t.Fatal(err)
	}
	if err := m.store.RemoveRootFS("c"); err != nil {
		t.Fatal(err)
	}
	msgs = messages{}
	if err := m.Push(t.Context(), PushOptions{Reference: committed, Auth: account}, msgs.add); err != nil {
		t.Fatal(err)
	}
	if text := msgs.text(); strings.Count(text, "Layer already exists") < 3 || strings.Count(text, "Pushed") > 1 {
		t.Errorf("push of a commit says\n%s", text)
	}
	id := ""
	if im, err := m.store.Resolve(t.Context(), committed); err != nil {
		t.Fatal(err)
	} else {
		id = im.ID
	}
	if _, err := m.store.Remove(t.Context(), id, image.RemoveOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
	if err := m.Pull(t.Context(), PullOptions{Reference: committed, Auth: account}, func(jsonstream.Message) {}); err != nil {
		t.Fatal(err)
	}
	if im, err := m.store.Resolve(t.Context(), committed); err != nil || im.ID != id {
		t.Errorf("pulled back: %v %v, want %s", im, err, id)
	}
}

func TestPullPlatform(t *testing.T) {
	m, _ := newManager(t)
	r := startRegistry(t, registry.Options{})
	if _, err := r.Push(t.Context(), images.Recipe{Name: "multiarch", Format: "oci"}, "multi", "latest"); err != nil {
		t.Fatal(err)
	}
	for arch, found := range map[string]bool{"": true, "amd64": true, "arm64": true, "riscv64": false} {
		var p *ocispec.Platform
		if arch != "" {
			p = &ocispec.Platform{OS: "linux", Architecture: arch}
		}
		err := m.Pull(t.Context(), PullOptions{Reference: r.Host + "/multi:latest", Platform: p}, func(jsonstream.Message) {})
		if found != (err == nil) || !found && !errdefs.IsNotFound(err) {
			t.Errorf("pull for %q: %v", arch, err)
		}
	}
	if err := m.Pull(t.Context(), PullOptions{Reference: r.Host + "/multi"}, func(jsonstream.Message) {}); err != nil {
		t.Errorf("pull of all tags: %v", err)
	}
	for _, ref := range []string{"/multi:nothing", "/nothing:1"} {
		if err := m.Pull(t.Context(), PullOptions{Reference: r.Host + ref}, func(jsonstream.Message) {}); !errdefs.IsNotFound(err) {
			t.Errorf("pull of %s: %v", ref, err)
		}
	}
	if _, err := m.Search(t.Context(), SearchOptions{Term: r.Host + "/multi", Limit: 5}); !errdefs.IsNotImplemented(err) {
		t.Errorf("search where there is none: %v", err)
	}
}

// TestPullCancelled cuts a pull in the middle of a layer.
// TestPullForeignLayer pulls an image whose manifest says that its layers lie
// somewhere else.
func TestPullForeignLayer(t *testing.T) {
	asked := make(chan string, 8)
	elsewhere := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { asked <- r.URL.Path }))
	defer elsewhere.Close()
	r := startRegistry(t, registry.Options{})
	if _, err := r.Push(t.Context(), images.Recipe{Name: "busybox", Format: "oci", Layer: images.Gzip}, "app", "1"); err != nil {
		t.Fatal(err)
	}
	honest := &url.URL{Scheme: "http", Host: r.Host}
	hostile := httptest.NewServer(&httputil.ReverseProxy{
		Rewrite:        func(r *httputil.ProxyRequest) { r.SetURL(honest) },
		ModifyResponse: func(resp *http.Response) error { return nameURLs(resp, elsewhere.URL+"/layer") },
	})
	defer hostile.Close()
	m, _ := newManager(t)
	err := m.Pull(t.Context(), PullOptions{Reference: strings.TrimPrefix(hostile.URL, "http://") + "/app:1"}, func(jsonstream.Message) {})
	if err != nil {
		t.Error(err)
	}
	select {
	case path := <-asked:
		t.Errorf("the manifest made kelp ask another server for %s", path)
	default:
	}
}

// nameURLs puts a URL for every layer into a manifest.
func nameURLs(resp *http.Response, to string) error {
	if resp.Request.Method != http.MethodGet || !strings.Contains(resp.Request.URL.Path, "/manifests/") {
		return nil
	}
	var mf ocispec.Manifest
	err := json.NewDecoder(resp.Body).Decode(&mf)
	for i := range mf.Layers {
		mf.Layers[i].URLs = []string{to}
	}
	b, merr := json.Marshal(mf)
	resp.Body, resp.ContentLength = io.NopCloser(bytes.NewReader(b)), int64(len(b))
	resp.Header.Set("Content-Length", strconv.Itoa(len(b)))
	resp.Header.Set("Docker-Content-Digest", digest.FromBytes(b).String())
	return errors.Join(err, merr)
}

func TestPullCancelled(t *testing.T) {
	m, dir := newManager(t)
	blobs := t.TempDir()
	fast := startRegistry(t, registry.Options{Dir: blobs})
	if _, err := fast.Push(t.Context(), images.Recipe{Name: "busybox", Format: "oci", Random: 8 << 20}, "app", "1"); err != nil {
		t.Fatal(err)
	}
	slow := startRegistry(t, registry.Options{Dir: blobs, Slow: time.Minute})
	before := files(t, dir)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	err := m.Pull(ctx, PullOptions{Reference: slow.Host + "/app:1"}, func(jsonstream.Message) {})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a pull that is cut gives %v", err)
	}
	for f := range files(t, dir) {
		if !before[f] {
			t.Errorf("a trace is left: %s", f)
		}
	}
	if err := m.Pull(t.Context(), PullOptions{Reference: fast.Host + "/app:1"}, func(jsonstream.Message) {}); err != nil {
		t.Errorf("the next pull: %v", err)
	}
}

// TestPullTogether pulls one image, and another one with layers of it, at the
// same time: each layer comes once.
func TestPullTogether(t *testing.T) {
	blobs := t.TempDir()
	filler := startRegistry(t, registry.Options{Dir: blobs})
	for tag, extra := range map[string]int{"1": 2, "2": 3} {
		if _, err := filler.Push(t.Context(), images.Recipe{Name: "busybox", Format: "oci", Layer: images.Gzip, Extra: extra}, "app", tag); err != nil {
			t.Fatal(err)
		}
	}
	r := startRegistry(t, registry.Options{Dir: blobs, Slow: 300 * time.Millisecond})
	m, _ := newManager(t)
	left, leave := context.WithCancel(t.Context())
	gone := make(chan error, 1)
	go func() {
		gone <- m.Pull(left, PullOptions{Reference: r.Host + "/app:1"}, func(jsonstream.Message) {})
	}()
	time.Sleep(100 * time.Millisecond) // it may come first, and then the others go on without it
	all := make([]messages, 4)
	errs := make(chan error)
	for i := range all {
		tag := []string{"1", "2"}[i%2]
		go func() { errs <- m.Pull(t.Context(), PullOptions{Reference: r.Host + "/app:" + tag}, all[i].add) }()
	}
	leave()
	if err := <-gone; err == nil {
		t.Error("a pull that was broken off says nothing of it")
	}
	for range all {
		if err := <-errs; err != nil {
			t.Fatal(err)
		}
	}
	waited := 0
	for i := range all {
		text := all[i].text()
		if !strings.Contains(text, "Pull complete") || !strings.Contains(text, "Status: ") {
			t.Errorf("pull %d says\n%s", i, text)
		}
		if strings.Contains(text, "Waiting") && strings.Contains(text, "Download complete") {
			waited++
		}
	}
	if waited < 2 {
		t.Errorf("%d pulls waited for another's layers and showed how they came, want 2 at least", waited)
	}
	// A configuration for each, four layers, and three for the one that left;
	// alone they would ask for 22.
	if n := r.Blobs.Load(); n > 5+4+3 {
		t.Errorf("%d blobs were sent", n)
	}
}
