package apiserver

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"os"

	"github.com/moby/moby/api/types"

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
	file, err := u.File()
	if err != nil {
		conn.Close()
		return nil, errStarted{err}
	}
	return &hijacked{File: file, Buffered: buffered(rw), conn: conn}, nil
}

// buffered returns what the HTTP server had read beyond the request.
func buffered(rw *bufio.ReadWriter) []byte {
	b, _ := rw.Reader.Peek(rw.Reader.Buffered())
	return append([]byte(nil), b...)
}
