package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/kelp-engine/kelp/test/images"
	"github.com/kelp-engine/kelp/test/registry"
)

// engine is whatever serves the Docker API on a socket.
type engine struct {
	name   string
	table  *table
	http   *http.Client
	memory func() (float64, error) // of all its processes, in MiB; nil is not measured
}

func newEngine(name, socket string, t *table) *engine {
	return &engine{name: name, table: t, http: &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
		MaxIdleConnsPerHost: 32,
	}}}
}

// call makes a request and decodes the answer into out unless that is nil.
func (e *engine) call(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	contentType := "application/json"
	switch in := in.(type) {
	case nil:
	case io.Reader:
		body, contentType = in, "application/x-tar"
	default:
		b, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://engine"+path, body)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", contentType)
	resp, err := e.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode >= 400 {
		return fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, bytes.TrimSpace(b))
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(b, out)
}

type object map[string]any

func (e *engine) create(ctx context.Context, config object) (string, error) {
	var made struct{ ID string }
	err := e.call(ctx, "POST", "/v1.41/containers/create", config, &made)
	return made.ID, err
}

func (e *engine) start(ctx context.Context, id string) error {
	return e.call(ctx, "POST", "/v1.41/containers/"+id+"/start", nil, nil)
}

func (e *engine) remove(ctx context.Context, id string) error {
	return e.call(ctx, "DELETE", "/v1.41/containers/"+id+"?force=1", nil, nil)
}

func config(cmd ...string) object {
	return object{"Image": "busybox:latest", "Cmd": cmd, "HostConfig": object{"NetworkMode": "none"}}
}

// measure takes every figure.
func (e *engine) measure(ctx context.Context) error {
	dir, err := os.MkdirTemp(os.Getenv("KELP_TEST_BASE"), "bench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := e.idleMemory(ctx); err != nil {
		return err
	}
	if err := e.loadImage(ctx, images.Recipe{Name: "busybox", Ref: "busybox:latest"}, filepath.Join(dir, "busybox.tar")); err != nil {
		return err
	}
	var errs []error
	for _, m := range []measurement{
		{"run", func(ctx context.Context) error { return e.runTrue(ctx, runTrue, "< runc", "none") }},
		{"bridge", func(ctx context.Context) error { return e.runTrue(ctx, "the same, default network", "< 80", "bridge") }},
		{"exec", e.execTrue},
		{"memory", e.memoryPerContainer},
		{"start", e.startMany},
		{"list", e.listMany},
		{"ping", e.pings},
		{"streams", e.throughput},
		{"images", func(ctx context.Context) error { return e.bigImage(ctx, dir) }},
	} {
		if asked(m.name) {
			errs = append(errs, m.take(ctx))
		}
	}
	return errors.Join(errs...)
}

// measurement takes figures that belong together.
type measurement struct {
	name string
	take func(context.Context) error
}

func (e *engine) loadImage(ctx context.Context, r images.Recipe, path string) error {
	if err := r.Write(path); err != nil {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return e.call(ctx, "POST", "/v1.41/images/load?quiet=1", io.Reader(f), nil)
}

func (e *engine) runTrue(ctx context.Context, figure, goal, network string) error {
	c := config("true")
	c["HostConfig"].(object)["NetworkMode"] = network
	ms, err := median(30, func() error {
		id, err := e.create(ctx, c)
		if err != nil {
			return err
		}
		if err := e.start(ctx, id); err != nil {
			return err
		}
		if err := e.call(ctx, "POST", "/v1.41/containers/"+id+"/wait", nil, nil); err != nil {
			return err
		}
		return e.remove(ctx, id)
	})
	if err != nil {
		return err
	}
	e.table.set(figure, "ms", goal, e.name, ms)
	return nil
}

// pings measures requests on connections that are kept alive.
func (e *engine) pings(ctx context.Context) error {
	const connections, window = 16, 2 * time.Second
	best := 0.0
	for range 3 {
		var done atomic.Int64
		begun := time.Now()
		g, ctx := errgroup.WithContext(ctx)
		for range connections {
			g.Go(func() error {
				for time.Since(begun) < window {
					if err := e.call(ctx, "GET", "/_ping", nil, nil); err != nil {
						return err
					}
					done.Add(1)
				}
				return nil
			})
		}
		if err := g.Wait(); err != nil {
			return err
		}
		best = max(best, float64(done.Load())/time.Since(begun).Seconds())
	}
	e.table.set("GET /_ping on 16 connections kept alive", "/s", "> 20,000", e.name, best)
	return nil
}

func (e *engine) execTrue(ctx context.Context) error {
	id, err := e.create(ctx, config("sleep", "1000"))
	if err != nil {
		return err
	}
	defer e.remove(ctx, id)
	if err := e.start(ctx, id); err != nil {
		return err
	}
	ms, err := median(30, func() error {
		var made struct{ ID string }
		create := object{"Cmd": []string{"true"}, "AttachStdout": true, "AttachStderr": true}
		if err := e.call(ctx, "POST", "/v1.41/containers/"+id+"/exec", create, &made); err != nil {
			return err
		}
		return e.call(ctx, "POST", "/v1.41/exec/"+made.ID+"/start", object{"Detach": false}, nil)
	})
	if err != nil {
		return err
	}
	e.table.set(execTrue, "ms", "< 25", e.name, ms)
	return nil
}

// many makes n containers and returns their ids.
func (e *engine) many(ctx context.Context, n int, cmd ...string) ([]string, error) {
	ids := make([]string, n)
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(4)
	for i := range ids {
		g.Go(func() (err error) {
			ids[i], err = e.create(ctx, config(cmd...))
			return err
		})
	}
	return ids, g.Wait()
}

// each calls f for every id, width at a time.
func each(ctx context.Context, ids []string, width int, f func(context.Context, string) error) error {
	var g errgroup.Group
	g.SetLimit(width)
	for _, id := range ids {
		g.Go(func() error { return f(ctx, id) })
	}
	return g.Wait()
}

func (e *engine) idleMemory(context.Context) error {
	if e.memory == nil {
		return nil
	}
	time.Sleep(time.Second) // let start-up's garbage go
	mib, err := e.memory()
	if err == nil {
		e.table.set("memory of all processes, just started (PSS)", "MiB", "< 60", e.name, mib)
	}
	return err
}

func (e *engine) memoryPerContainer(ctx context.Context) error {
	if e.memory == nil {
		return nil
	}
	before, err := e.memory()
	if err != nil {
		return err
	}
	const n = 30
	ids, err := e.many(ctx, n, "sleep", "1000")
	if err != nil {
		return err
	}
	if err := each(ctx, ids, 4, e.start); err != nil {
		return err
	}
	after, err := e.memory()
	if err != nil {
		return err
	}
	e.table.set("memory for one more idle container (PSS)", "MiB", "< 1", e.name, (after-before)/n)
	return each(ctx, ids, 4, e.remove)
}

func (e *engine) startMany(ctx context.Context) error {
	ids, err := e.many(ctx, 100, "sleep", "1000")
	if err != nil {
		return err
	}
	begun := time.Now()
	if err := each(ctx, ids, 8, e.start); err != nil {
		return err
	}
	e.table.set("start 100 containers, 8 at a time", "s", "no failure", e.name, time.Since(begun).Seconds())
	return each(ctx, ids, 8, e.remove)
}

func (e *engine) listMany(ctx context.Context) error {
	ids, err := e.many(ctx, 1000, "true")
	if err != nil {
		return err
	}
	ms, err := median(10, func() error { return e.call(ctx, "GET", "/v1.41/containers/json?all=1", nil, nil) })
	if err != nil {
		return err
	}
	e.table.set("list 1,000 containers", "ms", "< 10", e.name, ms)
	return each(ctx, ids, 8, e.remove)
}

// bigImage loads and pulls an image of 300 MB whose layers are compressed.
func (e *engine) bigImage(ctx context.Context, dir string) error {
	r := images.Recipe{Name: "busybox", Ref: "big:1", Random: 300 << 20, Format: "docker"}
	path := filepath.Join(dir, "big.tar")
	if err := r.Write(path); err != nil {
		return err
	}
	begun := time.Now()
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := e.call(ctx, "POST", "/v1.41/images/load?quiet=1", io.Reader(f), nil); err != nil {
		return err
	}
	e.table.set("load an image of 300 MB", "s", "< 1.8", e.name, time.Since(begun).Seconds())
	if err := errors.Join(e.call(ctx, "DELETE", "/v1.41/images/big:1?force=1", nil, nil), os.Remove(path)); err != nil {
		return err
	}
	reg, err := registry.Start(ctx, registry.Options{Dir: dir})
	if err != nil {
		return err
	}
	defer reg.Close()
	r.Layer = images.Gzip
	if _, err := reg.Push(ctx, r, "big", "1"); err != nil {
		return err
	}
	begun = time.Now()
	pull := "/v1.41/images/create?" + url.Values{"fromImage": {reg.Host + "/big"}, "tag": {"1"}}.Encode()
	if e.name == "podman" { // whose Docker API wants TLS even from loopback
		pull = "/v4.0.0/libpod/images/pull?" + url.Values{"reference": {reg.Host + "/big:1"}, "tlsVerify": {"false"}}.Encode()
	}
	if err := e.call(ctx, "POST", pull, nil, nil); err != nil {
		return err
	}
	took := time.Since(begun).Seconds()
	if err := e.call(ctx, "GET", "/v1.41/images/"+reg.Host+"/big:1/json", nil, nil); err != nil {
		return fmt.Errorf("it was not pulled: %w", err)
	}
	e.table.set("pull an image of 300 MB from loopback", "s", "< 2.2", e.name, took)
	return e.call(ctx, "DELETE", "/v1.41/images/"+reg.Host+"/big:1?force=1", nil, nil)
}
