package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// volume is how much a container prints for the throughput figures.
const volume = 400 << 20

// throughput measures output; podman attaches to nothing that has not started.
func (e *engine) throughput(ctx context.Context) error {
	if e.name == "podman" {
		return nil
	}
	return errors.Join(e.attachThroughput(ctx), e.logsThroughput(ctx))
}

// attachThroughput measures output that goes to an attached client, alone and
// with a log written on the way.
func (e *engine) attachThroughput(ctx context.Context) error {
	if err := e.best("attach, output without a log", "> 500", func() (float64, error) {
		return e.attached(ctx, "none", fmt.Sprintf("dd if=/dev/zero bs=1M count=%d 2>/dev/null", volume>>20))
	}); err != nil {
		return err
	}
	return e.best("attach, lines that json-file keeps", "> 500", func() (float64, error) {
		return e.attached(ctx, "json-file", "cat /lines")
	})
}

// logsThroughput measures a log that is followed while it is written.
func (e *engine) logsThroughput(ctx context.Context) error {
	if err := e.best("logs -f of a container that prints lines", "> 500", func() (float64, error) {
		return e.followed(ctx, "cat /lines", volume)
	}); err != nil {
		return err
	}
	const some = volume / 8 // each byte takes six in json-file
	return e.best("logs -f of a container that prints NUL bytes", "–", func() (float64, error) {
		return e.followed(ctx, fmt.Sprintf("head -c %d /dev/zero", some), some)
	})
}

// best notes the highest speed of a few: the others met what else the machine
// does.
func (e *engine) best(name, goal string, measure func() (float64, error)) error {
	best := 0.0
	for range 4 {
		speed, err := measure()
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		best = max(best, speed)
	}
	e.table.set(name, "MB/s", goal, e.name, best)
	return nil
}

// printer starts a container that makes a file of lines and, when it is told
// to by the connection, prints with command.
func (e *engine) printer(ctx context.Context, log, command, attach string) (id string, conn io.ReadWriteCloser, err error) {
	line := strings.Repeat("0123456789abcdef", 6)
	c := config("sh", "-c", fmt.Sprintf("yes %s | head -c %d > /lines; read go; %s", line, volume, command))
	c["OpenStdin"], c["AttachStdin"] = true, true
	c["HostConfig"].(object)["LogConfig"] = object{"Type": log}
	if id, err = e.create(ctx, c); err != nil {
		return "", nil, err
	}
	if conn, err = e.hijack(ctx, "/v1.41/containers/"+id+"/attach?stream=1&stdin=1"+attach); err == nil {
		if err = e.start(ctx, id); err != nil {
			conn.Close()
		}
	}
	if err != nil {
		err = errors.Join(err, e.remove(ctx, id))
	}
	return id, conn, err
}

func (e *engine) attached(ctx context.Context, log, command string) (speed float64, err error) {
	id, conn, err := e.printer(ctx, log, command, "&stdout=1")
	if err != nil {
		return 0, err
	}
	defer e.remove(ctx, id)
	defer conn.Close()
	return speedOf(conn, conn, volume)
}

func (e *engine) followed(ctx context.Context, command string, size int) (speed float64, err error) {
	id, conn, err := e.printer(ctx, "json-file", command, "")
	if err != nil {
		return 0, err
	}
	defer e.remove(ctx, id)
	defer conn.Close()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://engine/v1.41/containers/"+id+"/logs?follow=1&stdout=1", nil)
	if err != nil {
		return 0, err
	}
	resp, err := e.http.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	return speedOf(conn, resp.Body, size)
}

// speedOf lets a container print size bytes and returns the speed, in MB/s, at
// which they come, from the first one to the end.
func speedOf(start io.Writer, output io.Reader, size int) (float64, error) {
	if err := warmMemory(2 * volume); err != nil {
		return 0, err
	}
	if _, err := io.WriteString(start, "go\n"); err != nil {
		return 0, err
	}
	if _, err := io.ReadFull(output, make([]byte, 1)); err != nil {
		return 0, err
	}
	begun := time.Now()
	n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, output, make([]byte, 256<<10))
	if err != nil {
		return 0, err
	}
	if n < int64(size)-1 {
		return 0, fmt.Errorf("only %d bytes of output came", n)
	}
	return float64(n) / 1e6 / time.Since(begun).Seconds(), nil
}

// warmMemory touches memory and gives it back: a virtual machine may have to
// ask its host for what was not used for a while, which is no engine's doing.
func warmMemory(size int) error {
	b, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_POPULATE)
	if err != nil {
		return err
	}
	return unix.Munmap(b)
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
