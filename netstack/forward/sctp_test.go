package forward

import (
	"encoding/binary"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"
	"unsafe"

	"github.com/kelp-engine/kelp/netstack/link"
	"github.com/kelp-engine/kelp/test/nstest"
	"golang.org/x/sys/unix"
)

// onStream is the control message for a stream and a protocol identifier.
func onStream(stream uint16, protocol uint32) []byte {
	out := make([]byte, unix.CmsgSpace(16))
	h := (*unix.Cmsghdr)(unsafe.Pointer(&out[0]))
	h.Level, h.Type = unix.IPPROTO_SCTP, 2
	h.SetLen(unix.CmsgLen(16))
	binary.NativeEndian.PutUint16(out[unix.CmsgLen(0):], stream)
	binary.BigEndian.PutUint32(out[unix.CmsgLen(0)+4:], protocol)
	return out
}

// A kernel without SCTP says so; where it is there (hack/vm/run has one),
// messages keep their bounds, streams and protocols both ways, and the end of
// one side is the end of the other.
func TestPublishedSCTP(t *testing.T) {
	n := newNetwork(t, EgressConfig{})
	at := netip.MustParseAddrPort(nstest.HostIPv4 + ":0")
	var server *net.TCPListener
	err := n.container.Do(func() (err error) {
		server, err = listenSCTP(netip.AddrPortFrom(container4, 9899))
		return err
	})
	if errors.Is(err, link.ErrNoSCTP) {
		_, _, err := Publish("sctp", at, n.target(netip.AddrPortFrom(container4, 9899)), slog.New(slog.DiscardHandler))
		if !errors.Is(err, link.ErrNoSCTP) {
			t.Errorf("publishing on a kernel without SCTP: %v", err)
		}
		t.Skip(err)
	}
	check(t, err)
	defer server.Close()
	peers, ended := make(chan net.Addr, 2), make(chan error, 2)
	go func() {
		for _, messages := range []int{3, 1} { // an echo of so many, then the end
			c, err := server.AcceptTCP()
			if err != nil {
				return
			}
			peers <- c.RemoteAddr()
			m, _ := newMessages(c)
			_ = m.prepare()
			buf := make([]byte, 1<<16)
			for range messages {
				n, info, _ := m.receive(buf)
				_ = m.send(buf[:n], info)
			}
			if messages == 1 {
				_, _, err := m.receive(buf)
				ended <- err
			}
			c.Close()
		}
	}()
	web := publish(t, "sctp", at.String(), n.target(netip.AddrPortFrom(container4, 9899)))

	client := dialSCTP(t, web)
	defer client.Close()
	m, err := newMessages(client)
	check(t, err)
	buf := make([]byte, 1<<16)
	for i, text := range []string{"one", "two", string(make([]byte, 40000))} {
		check(t, m.send([]byte(text), onStream(uint16(i*3), uint32(i+7))))
		got, info, err := m.receive(buf)
		check(t, err)
		body := info[unix.CmsgLen(0):]
		if stream, protocol := binary.NativeEndian.Uint16(body), binary.BigEndian.Uint32(body[4:]); string(buf[:got]) != text || int(stream) != i*3 || int(protocol) != i+7 {
			t.Errorf("%d bytes came back on stream %d as protocol %d", got, stream, protocol)
		}
	}
	if peer, _, _ := net.SplitHostPort((<-peers).String()); peer != gateway4.String() {
		t.Errorf("the container saw %s", peer)
	}
	if got, _, err := m.receive(buf); got != 0 || err != nil {
		t.Errorf("after the container's end came %d bytes, %v", got, err)
	}

	second := dialSCTP(t, web)
	m, err = newMessages(second)
	check(t, err)
	check(t, m.send([]byte("x"), nil))
	_, _, err = m.receive(buf)
	check(t, err)
	second.Close()
	if err := <-ended; err != nil {
		t.Errorf("after the client's end the container saw %v", err)
	}
}

// The associations of a published port count as open files, also those that the
// container does not take up; a client has a share of what there is.
func TestSCTPClientsCountAsOpenFiles(t *testing.T) {
	n := newNetwork(t, EgressConfig{})
	var server *net.TCPListener
	err := n.container.Do(func() (err error) {
		server, err = listenSCTP(netip.AddrPortFrom(container4, 9899))
		return err
	})
	if errors.Is(err, link.ErrNoSCTP) {
		t.Skip(err)
	}
	check(t, err)
	defer server.Close()
	at := publish(t, "sctp", nstest.HostIPv4+":0", n.target(netip.AddrPortFrom(container4, 9899)))
	limitFiles(t, 400)
	before := counted()
	var clients []*net.TCPConn
	for range 100 {
		c, err := trySCTP(t, at)
		if err == nil { // else its end was faster
			clients = append(clients, c)
		}
	}
	// Half of three quarters of 400, two for each.
	waitCounted(t, before+150)
	for _, c := range clients {
		abortTCP(c)
	}
	waitCounted(t, before)
}

// waitCounted waits until so many descriptors are counted.
func waitCounted(t *testing.T, want int64) {
	t.Helper()
	for begun := time.Now(); counted() != want; time.Sleep(10 * time.Millisecond) {
		if time.Since(begun) > time.Minute {
			t.Fatalf("%d descriptors are counted, not %d", counted(), want)
		}
	}
}

func dialSCTP(t *testing.T, to netip.AddrPort) *net.TCPConn {
	t.Helper()
	c, err := trySCTP(t, to)
	check(t, err)
	return c
}

func trySCTP(t *testing.T, to netip.AddrPort) (*net.TCPConn, error) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, unix.IPPROTO_SCTP)
	check(t, err)
	f := os.NewFile(uintptr(fd), "client")
	defer f.Close() // FileConn keeps a copy
	check(t, link.PrepareSCTP(fd))
	if err := unix.Connect(fd, &unix.SockaddrInet4{Addr: to.Addr().As4(), Port: int(to.Port())}); err != nil {
		return nil, err
	}
	check(t, unix.SetNonblock(fd, true))
	c, err := net.FileConn(f)
	check(t, err)
	return c.(*net.TCPConn), nil
}
