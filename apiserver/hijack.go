package apiserver

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/moby/moby/api/types"
	"golang.org/x/sys/unix"

	"github.com/kelp-engine/kelp/engine/fault"
)

// hijacked is a client connection that no longer speaks HTTP.
type hijacked struct {
	// File is a duplicate of the connection, for the keeper.
	File *os.File
	// Buffered is input that the client sent along with its request.
	Buffered []byte
	conn     net.Conn
}

// Close closes this process's ends of the connection.
func (h *hijacked) Close() {
	h.File.Close()
	h.conn.Close()
}

// hijack takes the connection over and answers 101 when the client asked to
// upgrade, else 200, as the Engine API reference describes for attach. After
// it, errors can only be told on the stream itself: check all there is to
// check before. mux says that output will be framed.
func hijack(w http.ResponseWriter, r *http.Request, mux bool, since142 bool) (*hijacked, error) {
	conn, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return nil, fault.Internal("cannot take over the connection: %w", err)
	}
	u, ok := conn.(*net.UnixConn)
	if !ok {
		conn.Close()
		return nil, errStarted{fmt.Errorf("the connection is a %T, not a unix socket", conn)}
	}
	media := types.MediaTypeRawStream
	if mux && since142 {
		media = types.MediaTypeMultiplexedStream
	}
	if r.Header.Get("Upgrade") != "" {
		_, err = fmt.Fprintf(conn, "HTTP/1.1 101 UPGRADED\r\nContent-Type: %s\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n", media)
	} else {
		_, err = fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Type: %s\r\n\r\n", media)
	}
	if err != nil {
		conn.Close()
		return nil, errStarted{err}
	}
	awaitRead(u)
	file, err := u.File()
	if err != nil {
		conn.Close()
		return nil, errStarted{err}
	}
	return &hijacked{File: file, Buffered: buffered(rw), conn: conn}, nil
}

// readPatience is how long a client may take to read the head of an answer.
const readPatience = 10 * time.Second

// awaitRead returns when the client has read all that was written. docker-py,
// and so Ansible, reads the head through a buffer and the streams beside it:
// output that came along with the head would be lost.
func awaitRead(conn *net.UnixConn) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return
	}
	end := time.Now().Add(readPatience)
	for pause := 20 * time.Microsecond; time.Now().Before(end); pause = min(2*pause, 10*time.Millisecond) {
		unread := 0
		if cerr := raw.Control(func(fd uintptr) { unread, err = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ) }); cerr != nil || err != nil || unread == 0 {
			return
		}
		wait := unix.NsecToTimespec(int64(pause))
		_ = unix.Nanosleep(&wait, nil) // time.Sleep sleeps a millisecond at least
	}
}

// buffered returns what the HTTP server had read beyond the request.
func buffered(rw *bufio.ReadWriter) []byte {
	b, _ := rw.Reader.Peek(rw.Reader.Buffered())
	return append([]byte(nil), b...)
}
