// Package daemonlog writes the log of kelp's own processes to standard error,
// and keeps it bounded where that is a file of kelp's.
//
// It must not write what containers say.
package daemonlog

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// maxSize of the log file in bytes. Beyond it the file becomes FILE.1, in
// place of an older one, and a new one begins.
const maxSize = 8 << 20

// Levels and Formats are the values that Options may hold; "" is the first
// format and the level info.
var (
	Levels  = []string{"debug", "info", "warn", "error"}
	Formats = []string{"text", "json"}
)

// Options of the log.
type Options struct {
	Level  string `json:"level,omitempty"`
	Format string `json:"format,omitempty"`
	// File is the path of the file that standard error is, when kelp itself
	// made it so; "" leaves its size to others.
	File string `json:"file,omitempty"`
}

// Setup makes slog write to standard error as the named process.
func Setup(process string, o Options) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(strings.ToUpper(o.Level))); err != nil {
		level = slog.LevelInfo
	}
	var w io.Writer = os.Stderr
	if o.File != "" {
		w = &bounded{path: o.File, max: maxSize, fds: []int{1, 2}}
	}
	opts := &slog.HandlerOptions{Level: level}
	var h slog.Handler = slog.NewTextHandler(w, opts)
	if o.Format == "json" {
		h = slog.NewJSONHandler(w, opts)
	}
	slog.SetDefault(slog.New(h).With("process", process))
	adoptLogrus(level)
}

// bounded writes to fds, which are all the file at path, in which several
// processes append. Each follows when another one has begun a new file.
type bounded struct {
	path string
	max  int64
	fds  []int // the last is written to

	mu sync.Mutex
}

func (b *bounded) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	// The log goes on in the old file when a new one cannot be had.
	_ = b.follow(int64(len(p)))
	return unix.Write(b.fds[len(b.fds)-1], p)
}

// follow makes fds the file at path, after that was renamed to leave room for
// n bytes more.
func (b *bounded) follow(n int64) error {
	var mine, current unix.Stat_t
	if err := unix.Fstat(b.fds[len(b.fds)-1], &mine); err != nil {
		return err
	}
	err := unix.Stat(b.path, &current)
	if err == nil && same(mine, current) && current.Size+n <= b.max {
		return nil
	}
	f, err := os.OpenFile(b.path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer func() { f.Close() }()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		return err
	}
	// Another process may have renamed it before this one got the lock.
	if err := unix.Fstat(int(f.Fd()), &mine); err != nil {
		return err
	}
	if err := unix.Stat(b.path, &current); err == nil && same(mine, current) && mine.Size+n > b.max {
		if err := os.Rename(b.path, b.path+".1"); err != nil {
			return err
		}
	}
	next, err := os.OpenFile(b.path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer next.Close()
	for _, fd := range b.fds {
		if err := unix.Dup3(int(next.Fd()), fd, 0); err != nil {
			return fmt.Errorf("cannot move the log to its new file: %w", err)
		}
	}
	return nil
}

func same(a, b unix.Stat_t) bool { return a.Dev == b.Dev && a.Ino == b.Ino }
