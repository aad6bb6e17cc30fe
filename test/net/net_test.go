// Package net tests what happens to networks when something dies, is missing
// or is hostile: with real sockets, from real containers and from the host.
package net

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kelp-engine/kelp/test/harness"
	"github.com/kelp-engine/kelp/test/images"
)

func TestMain(m *testing.M) { harness.Main(m, harness.Program("probe", "./probe")) }

// kelp is a running kelp with the busybox image.
type kelp struct {
	*harness.Kelp
	t *testing.T
}

func start(t *testing.T, args ...string) *kelp {
	t.Helper()
	h, err := harness.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log("kelp's log:\n" + h.Logs())
		}
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	archive := filepath.Join(t.TempDir(), "busybox.tar")
	if err := (images.Recipe{Name: "busybox", Ref: "busybox:latest"}).Write(archive); err != nil {
		t.Fatal(err)
	}
	k := &kelp{h, t}
	k.must(h.Start(t.Context(), args...))
	k.docker("load", "-q", "-i", archive)
	return k
}

func (k *kelp) must(err error) {
	k.t.Helper()
	if err != nil {
		k.t.Fatal(err)
	}
}

// docker runs the client, which must succeed.
func (k *kelp) docker(args ...string) string {
	k.t.Helper()
	out, err := k.Docker(k.t.Context(), args...)
	k.must(err)
	return out
}

// probe starts a container that runs the probe. Words before "--" are for
// docker, the others for the probe.
func (k *kelp) probe(name string, words ...string) {
	k.t.Helper()
	args := []string{"run", "-d", "--name", name, "-v", harness.ProgramPath("probe") + ":/probe:ro"}
	for i, w := range words {
		if w == "--" {
			args = append(append(args, words[:i]...), "busybox", "/probe")
			k.docker(append(args, words[i+1:]...)...)
			return
		}
	}
	k.t.Fatal("no -- among the words")
}

// says waits until a container has printed a line with the text.
func (k *kelp) says(name, text string) {
	k.t.Helper()
	k.must(harness.Until(k.t.Context(), time.Minute, name+" says "+text, func() error {
		out, err := k.Docker(k.t.Context(), "logs", name)
		if err == nil && !strings.Contains(out, text) {
			state, _ := k.Docker(k.t.Context(), "inspect", "-f", "{{.State.Status}}", name)
			err = fmt.Errorf("it is %s and says %q", state, out)
		}
		return err
	}))
}

// port is the host's address of a container's published port.
func (k *kelp) port(name, port string) string {
	k.t.Helper()
	first, _, _ := strings.Cut(k.docker("port", name, port), "\n")
	return first
}

// chatter is a connection on which lines go to and fro.
type chatter struct {
	net.Conn
	r *bufio.Reader
}

func (k *kelp) dial(network, address string) *chatter {
	k.t.Helper()
	c, err := net.Dial(network, address)
	k.must(err)
	k.t.Cleanup(func() { c.Close() })
	return &chatter{c, bufio.NewReader(c)}
}

func (c *chatter) exchange(line string) error {
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	if _, err := io.WriteString(c, line+"\n"); err != nil {
		return err
	}
	got, err := c.r.ReadString('\n')
	if err == nil && got != line+"\n" {
		err = fmt.Errorf("sent %q, got %q", line, got)
	}
	return err
}

// hostEcho serves TCP and UDP on the host's own address and returns it.
func hostEcho(t *testing.T) string {
	t.Helper()
	c, err := net.Dial("udp", "198.51.100.1:9") // sends nothing
	if err != nil {
		t.Skip("the host has no address but loopback")
	}
	host := c.LocalAddr().(*net.UDPAddr).IP.String()
	c.Close()
	l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		t.Fatal(err)
	}
	u, err := net.ListenPacket("udp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close(); u.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err != nil {
				t.Log(err)
				time.Sleep(50 * time.Millisecond)
				continue
			}
			go func() {
				defer c.Close()
				_, _ = io.Copy(c, c)
			}()
		}
	}()
	go func() {
		buf := make([]byte, 65535)
		for {
			n, from, err := u.ReadFrom(buf)
			if err != nil {
				return
			}
			_, _ = u.WriteTo(buf[:n], from)
		}
	}()
	return l.Addr().String()
}

func (k *kelp) running(names ...string) {
	k.t.Helper()
	for _, n := range names {
		if s := k.docker("inspect", "-f", "{{.State.Status}}", n); s != "running" {
			out, _ := k.Docker(context.Background(), "logs", n)
			k.t.Errorf("%s is %s: %s", n, s, out)
		}
	}
}
