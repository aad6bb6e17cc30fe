package keeper

import (
	"context"
	"encoding/json"
	"os"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// Ref names a process that the keeper runs: a container's init (Exec empty)
// or a process that was executed in it.
type Ref struct {
	Container string `json:"container"`
	Exec      string `json:"exec,omitempty"`
}

// Stdio says how a process's standard streams are made.
type Stdio struct {
	TTY bool `json:"tty,omitempty"`
	// Stdin keeps standard input open for attached clients; else it is empty.
	Stdin bool `json:"stdin,omitempty"`
	// StdinOnce closes standard input when the first client that attached
	// to it leaves.
	StdinOnce bool `json:"stdin_once,omitempty"`
	// Height and Width are the terminal's first size in characters; 0 leaves
	// the kernel's.
	Height uint16 `json:"height,omitempty"`
	Width  uint16 `json:"width,omitempty"`
}

// Log says where a container's output is kept.
type Log struct {
	// Driver is "json-file", "local" or "none".
	Driver string `json:"driver"`
	// Path is the file written to; rotated ones are Path.1, Path.2, …
	Path string `json:"path,omitempty"`
	// MaxSize in bytes after which the file is rotated; 0 is never.
	MaxSize int64 `json:"max_size,omitempty"`
	// MaxFile is how many files are kept, the current one included.
	MaxFile  int  `json:"max_file,omitempty"`
	Compress bool `json:"compress,omitempty"`
	// Buffer, unless 0, lets the container go on when the log cannot keep up:
	// so many bytes of output are kept in memory, and beyond them dropped.
	Buffer int64 `json:"buffer,omitempty"`
	// Attrs are written with every entry of json-file (labels, env, tag).
	Attrs map[string]string `json:"attrs,omitempty"`
}

// StartRequest describes a container to run.
type StartRequest struct {
	ID   string      `json:"id"`
	Spec *specs.Spec `json:"spec"` // Root.Path is absolute and mounted
	// Sandbox is the id of the network sandbox to join; "" leaves the network
	// namespace to Spec.
	Sandbox string `json:"sandbox,omitempty"`
	// Cgroup is the path of the container's cgroup below the keeper's own,
	// as in /proc/self/cgroup; "" when cgroups cannot be had.
	Cgroup        string `json:"cgroup,omitempty"`
	SystemdCgroup bool   `json:"systemd_cgroup,omitempty"`
	Stdio         Stdio  `json:"stdio"`
	Log           Log    `json:"log"`
}

// ExecRequest describes a process to run in a running container.
type ExecRequest struct {
	Ref
	Process *specs.Process `json:"process"`
	Stdio   Stdio          `json:"stdio"`
	// Attach, when set, attaches the file that comes with the request before
	// the process runs, so that no output is missed.
	Attach *AttachRequest `json:"attach,omitempty"`
}

// Started identifies a process for good: the pid may be reused, the pair not.
type Started struct {
	PID       int       `json:"pid"`
	StartTime uint64    `json:"start_time"` // clock ticks since boot, field 22 of /proc/PID/stat
	At        time.Time `json:"at"`
}

// Status of a process that the keeper knows.
type Status string

// Statuses. A process that was attached to but not started yet has none and
// is not listed.
const (
	Running Status = "running"
	Paused  Status = "paused"
	Exited  Status = "exited"
)

// Task is what the keeper knows of one process. An exited one is kept until
// it is forgotten, so that no exit code is lost while no engine runs.
type Task struct {
	Ref
	Started
	Status    Status    `json:"status"`
	ExitCode  int       `json:"exit_code"` // 128+N when signal N ended it
	OOMKilled bool      `json:"oom_killed,omitempty"`
	ExitedAt  time.Time `json:"exited_at,omitzero"`
}

// AttachRequest connects the file that comes with the request, a stream
// socket, to a process's standard streams. The container need not run yet:
// the connection then waits for its start. The keeper owns the file from then
// on and closes it when the process's output has ended, or the client's
// detach keys came.
type AttachRequest struct {
	Ref
	Stdin  bool `json:"stdin,omitempty"`
	Stdout bool `json:"stdout,omitempty"`
	Stderr bool `json:"stderr,omitempty"`
	// Mux frames output as Docker's multiplexed stream (8 byte headers);
	// false sends bytes as they are, as for terminals.
	Mux bool `json:"mux,omitempty"`
	// DetachKeys is the byte sequence on stdin that ends the attachment.
	DetachKeys []byte `json:"detach_keys,omitempty"`
	// Buffered is input that the engine had read ahead from the client.
	Buffered []byte `json:"buffered,omitempty"`
	// Next, for a container that has exited, waits for its next start
	// instead of closing the file at once.
	Next bool `json:"next,omitempty"`
}

// AttachResult says how an attachment ended.
type AttachResult struct {
	Detached bool `json:"detached,omitempty"` // by the detach keys or the client's leaving
}

// Start runs a container; it is running when Start returns.
func (c *Client) Start(ctx context.Context, r StartRequest) (Started, error) {
	var s Started
	err := c.call(ctx, "start", r, &s)
	return s, err
}

// Exec runs a process in a running container. attach is the client's
// connection when r.Attach is set; ended, which may be nil, is then called
// from another goroutine when the attachment is over or the keeper gone. It
// is over when the process has exited and its output was given on, so that
// Task knows its exit code then. An error leaves attach to the caller.
func (c *Client) Exec(ctx context.Context, r ExecRequest, attach *os.File, ended func(AttachResult, error)) (Started, error) {
	if attach == nil {
		var s Started
		err := c.call(ctx, "exec", r, &s)
		return s, err
	}
	return attached[Started](ctx, &c.caller, "exec", r, attach, ended)
}

// Attach hands conn to the keeper and returns once it is attached; ended,
// which may be nil, is called from another goroutine when the attachment is
// over or the keeper gone. The caller may close conn as soon as Attach returns.
func (c *Client) Attach(ctx context.Context, r AttachRequest, conn *os.File, ended func(AttachResult, error)) error {
	_, err := attached[struct{}](ctx, &c.caller, "attach", r, conn, ended)
	return err
}

// attached makes a call that answers twice: with a First once conn is
// attached, and with an AttachResult when that is over. The call goes on when
// ctx ends: the keeper has the connection by then.
func attached[First any](ctx context.Context, c *caller, op string, r any, conn *os.File, ended func(AttachResult, error)) (First, error) {
	var first First
	var result AttachResult
	begun := make(chan error, 1)
	go func() {
		answers := 0
		err := c.stream(context.WithoutCancel(ctx), op, r, func(body json.RawMessage) error {
			answers++
			if answers > 1 {
				return json.Unmarshal(body, &result)
			}
			err := json.Unmarshal(body, &first)
			begun <- err
			return err
		}, conn)
		if answers == 0 {
			begun <- err
		} else if ended != nil {
			ended(result, err)
		}
	}()
	err := <-begun
	return first, err
}

// Signal sends a signal to the process, or with all to every process of the
// container. One that has ended is errdefs.ErrNotFound.
func (c *Client) Signal(ctx context.Context, ref Ref, signal int, all bool) error {
	return c.call(ctx, "signal", struct {
		Ref
		Signal int  `json:"signal"`
		All    bool `json:"all,omitempty"`
	}{ref, signal, all}, nil)
}

// Resize sets the size of the process's terminal, in characters.
func (c *Client) Resize(ctx context.Context, ref Ref, height, width uint16) error {
	return c.call(ctx, "resize", struct {
		Ref
		Height uint16 `json:"height"`
		Width  uint16 `json:"width"`
	}{ref, height, width}, nil)
}

// Pause stops every process of the container: by its cgroup's freezer where
// there is one, else by SIGSTOP to each.
func (c *Client) Pause(ctx context.Context, id string) error {
	return c.call(ctx, "pause", Ref{Container: id}, nil)
}

// Resume lets a paused container go on.
func (c *Client) Resume(ctx context.Context, id string) error {
	return c.call(ctx, "resume", Ref{Container: id}, nil)
}

// Update applies new resource limits to a running container.
func (c *Client) Update(ctx context.Context, id string, r specs.LinuxResources) error {
	return c.call(ctx, "update", struct {
		Ref
		Resources specs.LinuxResources `json:"resources"`
	}{Ref{Container: id}, r}, nil)
}

// Processes returns the pids, in the host's numbering, of every process of a
// running container.
func (c *Client) Processes(ctx context.Context, id string) ([]int, error) {
	var pids []int
	err := c.call(ctx, "processes", Ref{Container: id}, &pids)
	return pids, err
}

// Task returns what the keeper knows of one process.
func (c *Client) Task(ctx context.Context, ref Ref) (Task, error) {
	var t Task
	err := c.call(ctx, "task", ref, &t)
	return t, err
}

// Tasks lists every process that the keeper knows.
func (c *Client) Tasks(ctx context.Context) ([]Task, error) {
	var tasks []Task
	err := c.call(ctx, "tasks", nil, &tasks)
	return tasks, err
}

// Watch hands every task that exits, or is killed for lack of memory, to
// each, and first every task that is known. It returns with ctx, with each's
// error, or when the keeper is gone.
func (c *Client) Watch(ctx context.Context, each func(Task) error) error {
	return c.stream(ctx, "watch", nil, func(body json.RawMessage) error {
		var t Task
		if err := json.Unmarshal(body, &t); err != nil {
			return err
		}
		return each(t)
	})
}

// Forget drops what the keeper kept of an exited process.
func (c *Client) Forget(ctx context.Context, ref Ref) error {
	return c.call(ctx, "forget", ref, nil)
}
