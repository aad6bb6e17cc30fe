package logfile

import (
	"compress/gzip"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

const (
	gzipped    = ".gz"
	unfinished = ".gz.tmp"
)

// rotate puts the full file away and begins a new one. A crash at any point
// leaves files that readers find: each step is one rename.
func (l *Log) rotate() {
	l.compressing.Wait() // it works on what would be moved
	if l.f != nil {
		l.f.Close()
		l.f = nil
	}
	if err := l.putAway(); err != nil {
		slog.Error("cannot rotate a container's log", "path", l.o.Path, "error", err)
	} else if l.o.Compress && l.o.MaxFile > 1 {
		l.compressing.Go(func() { compress(l.o.Path + ".1") })
	}
	if err := l.open(); err != nil {
		l.fail(nil, err) // write tries again
	}
}

// putAway renames the full file. One that is not to be kept is removed, not
// emptied: whoever reads it comes to its end.
func (l *Log) putAway() error {
	if l.o.MaxFile < 2 {
		return os.Remove(l.o.Path)
	}
	return l.shift()
}

// shift renames Path to Path.1, Path.1 to Path.2 and so on; the last goes.
func (l *Log) shift() error {
	used := 1 // the first number that is free, or the last that may be used
	for used < l.o.MaxFile-1 && (exists(l.name(used)) || exists(l.name(used)+gzipped)) {
		used++
	}
	for _, suffix := range []string{"", gzipped} {
		if err := os.Remove(l.name(used) + suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	for i := used - 1; i >= 1; i-- {
		for _, suffix := range []string{"", gzipped} {
			if err := os.Rename(l.name(i)+suffix, l.name(i+1)+suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	return os.Rename(l.o.Path, l.name(1))
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

func (l *Log) name(i int) string { return l.o.Path + "." + strconv.Itoa(i) }

// compress replaces a file by its compressed self. When it cannot, the file
// stays as it is.
func compress(path string) {
	if err := gzipTo(path, path+unfinished); err != nil {
		slog.Warn("cannot compress a container's log", "path", path, "error", err)
		_ = os.Remove(path + unfinished)
		return
	}
	if err := os.Rename(path+unfinished, path+gzipped); err != nil {
		slog.Warn("cannot compress a container's log", "path", path, "error", err)
		return
	}
	_ = os.Remove(path)
}

func gzipTo(from, to string) (err error) {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o640)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dst.Close()) }()
	z, err := gzip.NewWriterLevel(dst, gzip.BestSpeed)
	if err != nil {
		return err
	}
	if _, err := io.Copy(z, src); err != nil {
		return err
	}
	return z.Close()
}

// removeHalfCompressed removes what a crash left of a compression: the file
// that was being written, or the one that was to be removed after it.
func removeHalfCompressed(path string) {
	dir, base := filepath.Split(path)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		name := e.Name()
		if !strings.HasPrefix(name, base+".") {
			continue
		}
		if strings.HasSuffix(name, unfinished) {
			_ = os.Remove(filepath.Join(dir, name))
		} else if plain, done := strings.CutSuffix(name, gzipped); done {
			_ = os.Remove(filepath.Join(dir, plain))
		}
	}
}
