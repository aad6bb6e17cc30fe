package bench

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"
)

// volume is how much a container prints for the throughput figures.
const volume = 400 << 20

// attachThroughput measures output that goes to an attached client alone.
func (e *engine) attachThroughput(ctx context.Context) error {
	c := config("sh", "-c", fmt.Sprintf("read go; dd if=/dev/zero bs=1M count=%d 2>/dev/null", volume>>20))
	c["OpenStdin"], c["AttachStdout"], c["AttachStdin"] = true, true, true
	c["HostConfig"].(object)["LogConfig"] = object{"Type": "none"}
	id, err := e.create(ctx, c)
	if err != nil {
		return err
	}
	defer e.remove(ctx, id)
	conn, err := e.hijack(ctx, "/v1.41/containers/"+id+"/attach?stream=1&stdin=1&stdout=1")
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := e.start(ctx, id); err != nil {
		return err
	}
	if _, err := io.WriteString(conn, "go\n"); err != nil {
		return err
	}
	return e.drain("attach, output without a log", conn)
}

// logsThroughput measures a log that is followed while it is written.
func (e *engine) logsThroughput(ctx context.Context) error {
	line := "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	id, err := e.create(ctx, config("sh", "-c", fmt.Sprintf("yes %s | head -c %d > /lines; cat /lines", line, volume/4)))
	if err != nil {
		return err
	}
	defer e.remove(ctx, id)
	if err := e.start(ctx, id); err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://engine/v1.41/containers/"+id+"/logs?follow=1&stdout=1", nil)
	if err != nil {
		return err
	}
	resp, err := e.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return e.drain("logs -f of a container that prints lines", resp.Body)
}

// drain reads r to its end and notes the speed from its first bytes on.
func (e *engine) drain(name string, r io.Reader) error {
	if _, err := io.ReadFull(r, make([]byte, 1)); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	begun := time.Now()
	n, err := io.Copy(io.Discard, r)
	if err != nil {
		return err
	}
	if n < volume/4-1 {
		return fmt.Errorf("%s: only %d bytes came", name, n)
	}
	e.table.set(name, "MB/s", "> 500", e.name, float64(n)/1e6/time.Since(begun).Seconds())
	return nil
}

// hijack makes a request whose connection becomes a stream both ways.
func (e *engine) hijack(ctx context.Context, path string) (io.ReadWriteCloser, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://engine"+path, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", "tcp")
	resp, err := e.http.Do(req)
	if err != nil {
		return nil, err
	}
	stream, ok := resp.Body.(io.ReadWriteCloser)
	if resp.StatusCode != http.StatusSwitchingProtocols || !ok {
		resp.Body.Close()
		return nil, fmt.Errorf("POST %s: %s", path, resp.Status)
	}
	return stream, nil
}
