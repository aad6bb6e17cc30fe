package logs

import (
	"compress/gzip"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// file is an open log file. It stays readable when it is rotated away.
type file struct {
	*os.File
	info       fs.FileInfo
	compressed bool
	complete   bool  // rotated when it was opened, so that it no longer grows
	offset     int64 // where to start reading; not for compressed files
	skip       int   // complete lines to leave out from there on
	digest     string
}

// open opens all files of a log, oldest first.
//
// The keeper may rotate them meanwhile. Files are opened from the newest to
// the oldest, the way that rotation moves them: none is missed that was there
// at the beginning, and one that is met again was overtaken by all between.
func open(path string) (files []*file, err error) {
	defer func() {
		if err != nil {
			closeAll(files)
		}
	}()
	oldest, err := oldestRotated(path)
	if err != nil {
		return nil, err
	}
	for i, missing := 0, 0; i <= oldest || missing < maxGap; i++ {
		f, err := openRotated(path, i)
		if errors.Is(err, fs.ErrNotExist) {
			missing++
			continue
		}
		if err != nil {
			return files, fmt.Errorf("cannot read the container's log: %w", err)
		}
		missing = 0
		if i := slices.IndexFunc(files, f.same); i >= 0 {
			files[i].Close()
			files = slices.Delete(files, i, i+1)
		}
		files = append(files, f)
	}
	slices.Reverse(files)
	return files, nil
}

// maxGap is how many numbers in a row may be missing before the oldest file:
// rotation leaves one free for a moment, wherever it is at work.
const maxGap = 8

// oldestRotated returns the highest number of a rotated file. It may be too
// low while files are renamed: the kernel lists a directory piece by piece.
func oldestRotated(path string) (int, error) {
	names, err := os.ReadDir(filepath.Dir(path))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("cannot list the container's logs: %w", err)
	}
	oldest := 0
	for _, e := range names {
		if suffix, ok := strings.CutPrefix(e.Name(), filepath.Base(path)+"."); ok {
			n, err := strconv.Atoi(strings.TrimSuffix(suffix, ".gz"))
			if err == nil && n > oldest && n < 1_000_000 {
				oldest = n
			}
		}
	}
	return oldest, nil
}

// openRotated opens the i-th rotated file, compressed or not; 0 is the file
// that is written to.
func openRotated(path string, i int) (*file, error) {
	if i > 0 {
		path += "." + strconv.Itoa(i)
	}
	f, err := os.Open(path)
	compressed := false
	if errors.Is(err, fs.ErrNotExist) && i > 0 {
		f, err = os.Open(path + ".gz")
		compressed = true
	}
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is no regular file", path)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return &file{File: f, info: info, compressed: compressed, complete: i > 0}, nil
}

// same says whether f and o are the same file, or the one is the other
// compressed.
func (f *file) same(o *file) bool {
	if os.SameFile(f.info, o.info) {
		return true
	}
	return f.compressed != o.compressed && f.head() != "" && f.head() == o.head()
}

// head returns a digest of the file's first bytes: enough of them to tell one
// file of a log from every other, as they hold an entry with its time. It is
// empty for a file without content.
func (f *file) head() string {
	if f.digest != "" {
		return f.digest
	}
	h := sha256.New()
	n, _ := io.CopyN(h, f.reader(0), 128<<10)
	if n == 0 {
		return ""
	}
	digest := string(h.Sum(nil))
	if f.complete {
		f.digest = digest
	}
	return digest
}

// reader reads the file's content from offset on; a file that grows gives
// more after it has said io.EOF.
func (f *file) reader(offset int64) io.Reader {
	if f.compressed {
		return &gunzip{src: io.NewSectionReader(f.File, 0, f.info.Size())}
	}
	return &tailReader{f: f.File, at: offset}
}

// gunzip is a gzip reader that tells of a bad header when it is read.
type gunzip struct {
	src io.Reader
	z   *gzip.Reader
}

func (g *gunzip) Read(p []byte) (n int, err error) {
	if g.z == nil {
		if g.z, err = gzip.NewReader(g.src); err != nil {
			return 0, err
		}
	}
	return g.z.Read(p)
}

// tailReader reads a file that may grow, or be cut to nothing.
type tailReader struct {
	f  *os.File
	at int64
}

func (r *tailReader) Read(p []byte) (int, error) {
	n, err := r.f.ReadAt(p, r.at)
	r.at += int64(n)
	if n > 0 {
		return n, nil
	}
	if err == io.EOF {
		if info, serr := r.f.Stat(); serr == nil && info.Size() < r.at {
			r.at = 0
		}
	}
	return 0, err
}

func closeAll(files []*file) {
	for _, f := range files {
		f.Close()
	}
}
