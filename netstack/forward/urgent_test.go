package forward

import (
	"bytes"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// standStill keeps the pumps from running until the returned function is
// called.
func standStill(t *testing.T) (goOn func()) {
	t.Helper()
	all, err := pumps()
	check(t, err)
	hold := make(chan struct{})
	for _, p := range all {
		stands := make(chan struct{})
		p.post(func() { close(stands); <-hold })
		<-stands
	}
	return func() { close(hold) }
}

// What lies behind urgent data goes on when all of it was there before a pump
// came, although no further event tells of it; so does the urgent byte.
func TestUrgentData(t *testing.T) {
	piece := []byte("a piece")
	for name, before := range map[string][]byte{"nothing": nil, "little": piece, "much": bytes.Repeat(piece, 10000)} {
		t.Run(name+" before", func(t *testing.T) {
			n := newNetwork(t, EgressConfig{})
			l, err := n.container.Listen("tcp4", &net.TCPAddr{IP: container4.AsSlice()})
			check(t, err)
			defer l.Close()
			at := publish(t, "tcp", "127.0.0.1:0", n.target(l.Addr().(*net.TCPAddr).AddrPort()))
			goOn := standStill(t)
			client, err := net.Dial("tcp", at.String())
			check(t, err)
			defer client.Close()
			raw, err := client.(*net.TCPConn).SyscallConn()
			check(t, err)
			_, err = client.Write(before)
			check(t, err)
			check(t, raw.Control(func(fd uintptr) { err = unix.Send(int(fd), []byte("!"), unix.MSG_OOB) }))
			check(t, err)
			_, err = client.Write(piece)
			check(t, err)
			goOn()
			server, err := l.Accept()
			check(t, err)
			defer server.Close()
			expect(t, server, append(append(bytes.Clone(before), '!'), piece...))
		})
	}
}

// Many small pieces that lie in a socket go on, although a pipe holds fewer
// bytes of them than of large ones.
func TestSmallPieces(t *testing.T) {
	all, err := pumps()
	check(t, err)
	var far [2]*os.File
	var near [2]int
	for i := range far { // pieces in a unix socket stay pieces
		pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		check(t, err)
		near[i], far[i] = pair[0], os.NewFile(uintptr(pair[1]), "far")
		defer far[i].Close()
	}
	sent := bytes.Repeat([]byte("much"), shortRead) // enough to be spliced
	_, err = far[outer].Write(sent)
	check(t, err)
	for range 200 {
		_, err := far[outer].Write([]byte("a piece"))
		check(t, err)
		sent = append(sent, "a piece"...)
	}
	ended := make(chan struct{})
	all[0].post(func() { all[0].startFlow(near[inner], near[outer], 0, func(*flow) { close(ended) }).begin() })
	expect(t, far[inner], sent)
	far[inner].Close()
	far[outer].Close()
	<-ended
}

// expect reads what was sent and stays connected.
func expect(t *testing.T, from interface {
	io.Reader
	SetReadDeadline(time.Time) error
}, sent []byte,
) {
	t.Helper()
	check(t, from.SetReadDeadline(time.Now().Add(10*time.Second)))
	got := make([]byte, len(sent))
	if k, err := io.ReadFull(from, got); err != nil || !bytes.Equal(got, sent) {
		t.Errorf("of %d bytes came %d, or others: %v", len(sent), k, err)
	}
}
