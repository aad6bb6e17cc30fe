package harness

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Answers stands between clients and the Engine API. It passes on every byte
// as it comes, in both directions, and reads along.
type Answers struct {
	path, target string // sockets

	judge    judge
	listener *net.UnixListener // nil while there is nothing to lead to
}

// Faults returns what was wrong with the answers so far.
func (t *Answers) Faults() []string { return t.judge.list() }

// listen begins to listen, when there is a socket to lead to.
func (t *Answers) listen() (err error) {
	if t == nil {
		return nil
	}
	if _, gone := os.Stat(t.target); gone != nil {
		t.Close()
	} else if t.listener == nil {
		if t.listener, err = net.ListenUnix("unix", &net.UnixAddr{Name: t.path, Net: "unix"}); err == nil {
			go t.accept(t.listener)
		}
	}
	return err
}

// Close stops listening; connections there are live on.
func (t *Answers) Close() {
	if t != nil && t.listener != nil {
		t.listener.Close()
		t.listener = nil
	}
}

// way is the socket to use instead of direct.
func (t *Answers) way(direct string) string {
	if t == nil || t.listener == nil {
		return direct
	}
	return t.path
}

func (t *Answers) accept(l *net.UnixListener) {
	for {
		client, err := l.AcceptUnix()
		if err != nil {
			return
		}
		go t.serve(client)
	}
}

func (t *Answers) serve(client *net.UnixConn) {
	defer client.Close()
	server, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: t.target, Net: "unix"})
	if err != nil {
		return
	}
	defer server.Close()
	requests, answers := newReader(), newReader()
	seen := make(chan *http.Request, 64)
	var judges sync.WaitGroup
	judges.Go(func() { defer close(seen); readRequests(requests, seen) })
	judges.Go(func() { t.judge.read(answers, seen); answers.drain() })

	var input sync.WaitGroup
	input.Go(func() {
		carry(server, client, requests)
		_ = server.CloseWrite() // the client may wait for more
	})
	carry(attentive{client}, server, answers)
	client.Close() // the engine's end is the connection's
	input.Wait()
	judges.Wait()
}

// carry copies from one connection to the other until the first ends; copy
// gets the same bytes.
func carry(to io.Writer, from *net.UnixConn, copy *reader) {
	_, _ = io.Copy(to, io.TeeReader(from, copy))
	copy.close()
}

// attentive writes no more before the other side has read what is written, as
// it comes together then what was sent together.
type attentive struct{ conn *net.UnixConn }

// Write implements io.Writer.
func (a attentive) Write(b []byte) (int, error) {
	n, err := a.conn.Write(b)
	if err != nil {
		return n, err
	}
	raw, err := a.conn.SyscallConn()
	for unread, pause := 1, 20*time.Microsecond; err == nil && unread > 0; pause = min(2*pause, 10*time.Millisecond) {
		time.Sleep(pause)
		if cerr := raw.Control(func(fd uintptr) { unread, err = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ) }); cerr != nil {
			err = cerr
		}
	}
	return n, err
}

// reader is what one side has said so far, for somebody who reads along and
// must never hold it up.
type reader struct {
	mu   sync.Mutex
	more sync.Cond
	buf  []byte
	end  bool // of what is said
	deaf bool // nobody reads any more
}

func newReader() *reader {
	r := &reader{}
	r.more.L = &r.mu
	return r
}

// Write implements io.Writer; it takes everything.
func (r *reader) Write(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.deaf {
		r.buf = append(r.buf, b...)
		r.more.Signal()
	}
	return len(b), nil
}

// Read implements io.Reader.
func (r *reader) Read(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for len(r.buf) == 0 && !r.end {
		r.more.Wait()
	}
	n := copy(b, r.buf)
	r.buf = r.buf[n:]
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

func (r *reader) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.end = true
	r.more.Signal()
}

// drain forgets the rest.
func (r *reader) drain() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.buf, r.deaf = nil, true
}

// readRequests sends the head of each request, until one takes the connection
// over or what comes is no HTTP.
func readRequests(from *reader, heads chan<- *http.Request) {
	defer from.drain()
	in := bufio.NewReader(from)
	for {
		r, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		heads <- r
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			return
		}
	}
}
