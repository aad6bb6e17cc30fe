package logs

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"time"

	"github.com/kelp-engine/kelp/engine/logs/entry"
)

// reader is one Read under way.
type reader struct {
	log     Log
	query   Query
	sink    Sink
	dec     entry.Decoder
	changes *changes // nil when nothing is followed
	files   []*file  // those left to read, oldest first
	buf     []byte
	done    bool // the query's Until has come
}

const firstBuffer = 256 << 10

// all hands on every entry of the files left, then follows if asked to.
func (r *reader) all(ctx context.Context) error {
	for !r.done && (len(r.files) > 0 || r.changes != nil) {
		if len(r.files) == 0 {
			more, err := r.firstFile(ctx)
			if err != nil || !more {
				return err
			}
			continue
		}
		follow := len(r.files) == 1 && r.changes != nil
		if err := r.file(ctx, r.files[0], follow); err != nil {
			return err
		}
		if follow && !r.done {
			if more, err := r.nextFiles(ctx); err != nil || !more {
				return err
			}
			continue
		}
		r.files[0].Close()
		r.files = r.files[1:]
	}
	return nil
}

// firstFile waits for a log that nothing was written to yet.
func (r *reader) firstFile(ctx context.Context) (more bool, err error) {
	ended := isClosed(r.query.Ended)
	if r.files, err = open(r.log.Path); err != nil || len(r.files) > 0 {
		return true, err
	}
	if ended {
		return false, nil
	}
	return true, r.wait(ctx)
}

// nextFiles replaces the file that was read to its end by those after it;
// there are none when the container has ended.
func (r *reader) nextFiles(ctx context.Context) (more bool, err error) {
	for {
		ended := isClosed(r.query.Ended)
		files, err := open(r.log.Path)
		if err != nil {
			return false, err
		}
		// A file that is not found was deleted as the oldest: all are newer.
		i := slices.IndexFunc(files, r.files[0].same)
		closeAll(files[:i+1])
		if files = files[i+1:]; len(files) > 0 {
			closeAll(r.files)
			r.files = files
			return true, nil
		}
		if ended {
			return false, nil
		}
		if err := r.wait(ctx); err != nil || r.done {
			return false, err
		}
	}
}

// file hands on the entries of f. With follow it goes on until f has been
// rotated away, or the container has ended.
func (r *reader) file(ctx context.Context, f *file, follow bool) error {
	if !follow && !r.query.Since.IsZero() && f.info.ModTime().Before(r.query.Since) {
		return nil
	}
	src := f.reader(f.offset)
	if r.buf == nil {
		r.buf = make([]byte, firstBuffer)
	}
	held := 0 // bytes at the front of buf that are not decoded yet
	for {
		// What was true before the last read is what the end it found means.
		last := !follow || isClosed(r.query.Ended) || f.rotated(r.log.Path)
		for {
			n, err := src.Read(r.buf[held:])
			if n > 0 {
				var derr error
				if held, derr = r.decode(f, held+n); derr != nil || r.done {
					return derr
				}
				if ctx.Err() != nil {
					return ctx.Err()
				}
				continue
			}
			if err == io.EOF {
				break
			}
			if err != nil && f.compressed {
				// Torn by a crash of the machine, most likely: the newer files
				// matter more than its end.
				slog.Warn("left out the end of a rotated log", "file", f.Name(), "error", err)
				return nil
			}
			if err != nil {
				return fmt.Errorf("cannot read the container's log: %w", err)
			}
		}
		if last {
			return nil
		}
		if err := r.wait(ctx); err != nil || r.done {
			return err
		}
	}
}

// decode hands on the entries of the first n bytes of the buffer and returns
// how many bytes it leaves, moved to the front, for when more are read.
func (r *reader) decode(f *file, n int) (left int, err error) {
	b := r.buf[:n]
	var e entry.Entry
	for len(b) > 0 {
		used, ok := r.dec.Next(b, &e)
		if used == 0 {
			break
		}
		b = b[used:]
		if !ok {
			continue
		}
		yes, done := r.query.wants(&e)
		switch {
		case done:
			r.done = true
			return 0, nil
		case !yes:
			continue
		case f.skip > 0:
			if !e.Partial {
				f.skip--
			}
			continue
		}
		if err := r.sink.Entry(&e); err != nil {
			return 0, err
		}
	}
	left = copy(r.buf, b)
	if left == len(r.buf) {
		r.buf = append(r.buf, make([]byte, len(r.buf))...) // decoders ask for MaxRecord at most
	}
	return left, nil
}

// rotated says whether path is no longer the name of f: then nothing will be
// written to f any more.
func (f *file) rotated(path string) bool {
	info, err := os.Stat(path)
	return err != nil || !os.SameFile(info, f.info)
}

// wait returns when the log may have changed, the container has ended or the
// query's Until has come.
func (r *reader) wait(ctx context.Context) error {
	if err := r.sink.Flush(); err != nil {
		return err
	}
	var until <-chan time.Time
	if !r.query.Until.IsZero() {
		t := time.NewTimer(time.Until(r.query.Until))
		defer t.Stop()
		until = t.C
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-r.query.Ended:
	case <-until:
		r.done = true
	case <-r.changes.C:
	}
	return nil
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
