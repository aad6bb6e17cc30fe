// Package keeper is what the engine knows of the keeper, the long-lived
// process that owns containers and their networks: the wire types of the
// keeper's private socket and a client for it.
//
// The protocol is small and versioned because an older keeper serves a newer
// engine: fields are only added, an operation's meaning never changes, and an
// unknown operation is refused as not implemented. This package must not
// import libcontainer, gVisor or anything that the engine alone needs.
//
// Each connection carries one request and its answer or answers. A message is
// its length (4 bytes, big endian) and that many bytes of JSON; file
// descriptors travel with its first byte (SCM_RIGHTS).
package keeper

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"

	"golang.org/x/sys/unix"

	"github.com/kelp-engine/kelp/engine/fault"
	"github.com/kelp-engine/kelp/userns/daemonlog"
)

// Version of the protocol that this package speaks.
const Version = 1

// Bounds of one message.
const (
	maxMessage = 16 << 20 // bytes
	maxFiles   = 8
)

// KeepGroups is an annotation of a container's spec, crun's: with "1" its
// processes keep the keeper's supplementary groups. They must name none.
const KeepGroups = "run.oci.keep_original_groups"

// Request is the first message of a connection.
type Request struct {
	Version int             `json:"version"`
	Op      string          `json:"op"`
	Body    json.RawMessage `json:"body,omitempty"`
	// Files is how many file descriptors come with the request.
	Files int `json:"files,omitempty"`
	// Engine is the number of the engine that asks, 0 when another program
	// does. What an engine asked for is refused once the next one's turn has come.
	Engine int `json:"engine,omitempty"`
}

// Response is each message of the answer. A streaming operation sends many;
// More is false in the last.
type Response struct {
	Error *fault.Wire     `json:"error,omitempty"`
	Body  json.RawMessage `json:"body,omitempty"`
	More  bool            `json:"more,omitempty"`
}

// Config is what a keeper is started with, as JSON in the environment
// variable ConfigEnv.
type Config struct {
	DataRoot   string `json:"data_root"`
	RuntimeDir string `json:"runtime_dir"`
	// Socket is the path of the Engine API socket.
	Socket string `json:"socket"`
	// Sockets is the number of listening sockets inherited from systemd, from
	// file descriptor 3 on; with one or more, Socket is not made anew.
	Sockets int `json:"sockets,omitempty"`
	// Engine is the command line of the engine, which the keeper starts and
	// starts again when it ends.
	Engine []string `json:"engine"`
	// EngineEnv is added to the engine's environment.
	EngineEnv []string `json:"engine_env,omitempty"`
	// Version is kelp's version, for hello.
	Version string            `json:"version"`
	Log     daemonlog.Options `json:"log"`
}

// ConfigEnv names the environment variable that holds a Config.
const ConfigEnv = "KELP_KEEPER"

// Hello is the answer to the operation "hello".
type Hello struct {
	Protocol  int    `json:"protocol"` // the keeper's Version
	Version   string `json:"version"`  // kelp's version when the keeper started
	PID       int    `json:"pid"`
	EnginePID int    `json:"engine_pid"` // 0 while none runs
	// EngineReady says that the engine answers API requests; while it does
	// not, EngineError is why the last one ended.
	EngineReady bool   `json:"engine_ready,omitempty"`
	EngineError string `json:"engine_error,omitempty"`
	// Stopping says that the keeper was told to end.
	Stopping bool `json:"stopping,omitempty"`
	// RuntimeDir is where the keeper's socket is.
	RuntimeDir string `json:"runtime_dir,omitempty"`
	Socket     string `json:"socket"`
	DataRoot   string `json:"data_root"`
	StartedAt  int64  `json:"started_at"` // Unix time in nanoseconds
	// Goroutines the keeper has, for those who look for leaks.
	Goroutines int `json:"goroutines,omitempty"`
}

// WriteMessage sends v, with files if there are any.
func WriteMessage(conn *net.UnixConn, v any, files ...*os.File) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if len(body) > maxMessage {
		return fault.InvalidArgument("a message to or from the keeper has %d bytes, more than the %d allowed", len(body), maxMessage)
	}
	msg := binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(body)), uint32(len(body)))
	msg = append(msg, body...)
	if len(files) == 0 {
		_, err = conn.Write(msg)
		return err
	}
	fds := make([]int, len(files))
	for i, f := range files {
		fds[i] = int(f.Fd())
	}
	n, _, err := conn.WriteMsgUnix(msg, unix.UnixRights(fds...), nil)
	if err == nil && n < len(msg) {
		_, err = conn.Write(msg[n:])
	}
	return err
}

// ReadMessage receives into v what one WriteMessage sent, and the files that
// came with it. The caller closes the files, on error as well.
func ReadMessage(conn *net.UnixConn, v any) ([]*os.File, error) {
	head := make([]byte, 4)
	oob := make([]byte, unix.CmsgSpace(4*maxFiles))
	n, oobn, flags, _, err := conn.ReadMsgUnix(head, oob)
	if err != nil {
		return nil, err
	}
	files, err := receivedFiles(oob[:oobn])
	if err != nil {
		return files, err
	}
	if flags&unix.MSG_CTRUNC != 0 {
		return files, fault.InvalidArgument("a message came with more than %d files", maxFiles)
	}
	if n == 0 {
		return files, io.EOF
	}
	if _, err := io.ReadFull(conn, head[n:]); err != nil {
		return files, err
	}
	size := binary.BigEndian.Uint32(head)
	if size > maxMessage {
		return files, fault.InvalidArgument("a message of %d bytes is longer than the %d allowed", size, maxMessage)
	}
	body := make([]byte, size)
	if _, err := io.ReadFull(conn, body); err != nil {
		return files, err
	}
	if err := json.Unmarshal(body, v); err != nil {
		return files, fault.InvalidArgument("cannot read a message: %w", err)
	}
	return files, nil
}

func receivedFiles(oob []byte) ([]*os.File, error) {
	if len(oob) == 0 {
		return nil, nil
	}
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, err
	}
	var files []*os.File
	for _, m := range messages {
		fds, err := unix.ParseUnixRights(&m)
		if err != nil {
			return files, err
		}
		for _, fd := range fds {
			unix.CloseOnExec(fd)
			files = append(files, os.NewFile(uintptr(fd), fmt.Sprintf("received-%d", fd)))
		}
	}
	return files, nil
}
