package forward

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kelp-engine/kelp/test/nstest"
)

// echoInside serves a port in the container that returns what it gets, and
// ends when the client has sent all.
func echoInside(t *testing.T, n *testNetwork) netip.AddrPort {
	t.Helper()
	l, err := n.container.Listen("tcp4", &net.TCPAddr{IP: container4.AsSlice()})
	check(t, err)
	t.Cleanup(func() { l.Close() })
	go nstest.Serve(l, func(c net.Conn) { io.Copy(struct{ io.Writer }{c}, struct{ io.Reader }{c}) })
	return l.Addr().(*net.TCPAddr).AddrPort()
}

// All buffers on the way fill up because the client reads slowly, in both
// directions and several times; nothing is lost or mixed up.
func TestFlowsUnderPressure(t *testing.T) {
	n := newNetwork(t, EgressConfig{})
	at := publish(t, "tcp", "127.0.0.1:0", n.target(echoInside(t, n)))
	data := make([]byte, 32<<20)
	rand.Read(data)
	var clients sync.WaitGroup
	for range 4 {
		c, err := net.Dial("tcp", at.String())
		check(t, err)
		defer c.Close()
		c.SetDeadline(time.Now().Add(time.Minute))
		go func() {
			c.Write(data)
			c.(*net.TCPConn).CloseWrite()
		}()
		clients.Go(func() {
			got, buf := make([]byte, 0, len(data)), make([]byte, 1<<20)
			for i := 0; ; i++ {
				k, err := c.Read(buf)
				got = append(got, buf[:k]...)
				if err != nil {
					if err != io.EOF || !bytes.Equal(got, data) {
						t.Errorf("%d of %d bytes came back, or others: %v", len(got), len(data), err)
					}
					return
				}
				if i%16 == 0 {
					time.Sleep(5 * time.Millisecond)
				}
			}
		})
	}
	clients.Wait()
}

// Each way ends on its own: the client's end of sending leaves it receiving.
// A reset of one end reaches the other also when the first way has ended.
func TestFlowsEnd(t *testing.T) {
	n := newNetwork(t, EgressConfig{})
	l, err := n.container.Listen("tcp4", &net.TCPAddr{IP: container4.AsSlice()})
	check(t, err)
	defer l.Close()
	at := publish(t, "tcp", "127.0.0.1:0", n.target(l.Addr().(*net.TCPAddr).AddrPort()))
	join := func() (client, server *net.TCPConn) {
		c, err := net.Dial("tcp", at.String())
		check(t, err)
		s, err := l.AcceptTCP()
		check(t, err)
		for _, x := range []net.Conn{c, s} {
			t.Cleanup(func() { x.Close() })
			x.SetDeadline(time.Now().Add(time.Minute))
		}
		return c.(*net.TCPConn), s
	}
	one := make([]byte, 1)

	client, server := join()
	check(t, client.CloseWrite())
	if _, err := server.Read(one); err != io.EOF {
		t.Fatalf("the end of sending became %v", err)
	}
	_, err = server.Write([]byte("x"))
	check(t, err)
	_, err = io.ReadFull(client, one)
	check(t, err)
	abortTCP(server)
	if _, err := client.Read(one); !errors.Is(err, unix.ECONNRESET) {
		t.Fatalf("after half a close the container's reset became %v", err)
	}

	client, server = join()
	check(t, client.CloseWrite())
	if _, err := server.Read(one); err != io.EOF {
		t.Fatalf("the end of sending became %v", err)
	}
	abortTCP(client)
	for err = error(nil); err == nil; _, err = server.Write(one) { // notices when it sends
		time.Sleep(time.Millisecond)
	}
	if !errors.Is(err, unix.ECONNRESET) && !errors.Is(err, unix.EPIPE) {
		t.Fatalf("after half a close the client's reset became %v", err)
	}
}

// Answers of which the end comes at once are whole, whether they are copied,
// spliced or a bit of both, and whether the client reads at once or late.
func TestShortAnswers(t *testing.T) {
	n := newNetwork(t, EgressConfig{})
	l, err := n.container.Listen("tcp4", &net.TCPAddr{IP: container4.AsSlice()})
	check(t, err)
	defer l.Close()
	data := make([]byte, 1<<20)
	rand.Read(data)
	go nstest.Serve(l, func(c net.Conn) { // the question is the answer's size
		var size [4]byte
		if _, err := io.ReadFull(c, size[:]); err == nil {
			c.Write(data[:binary.BigEndian.Uint32(size[:])])
		}
	})
	at := publish(t, "tcp", "127.0.0.1:0", n.target(l.Addr().(*net.TCPAddr).AddrPort()))
	var clients sync.WaitGroup
	for _, size := range []int{0, 1, shortRead - 1, shortRead, shortRead + 1, 2 * shortRead, 10*shortRead + 1, len(data)} {
		for _, late := range []time.Duration{0, 50 * time.Millisecond} {
			clients.Go(func() {
				c, err := net.Dial("tcp", at.String())
				if err != nil {
					t.Error(err)
					return
				}
				defer c.Close()
				c.SetDeadline(time.Now().Add(time.Minute))
				c.Write(binary.BigEndian.AppendUint32(nil, uint32(size)))
				time.Sleep(late)
				if got, err := io.ReadAll(c); err != nil || !bytes.Equal(got, data[:size]) {
					t.Errorf("of %d bytes came %d, or others: %v", size, len(got), err)
				}
			})
		}
	}
	clients.Wait()
}
