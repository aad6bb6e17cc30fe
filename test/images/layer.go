package images

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"math/rand/v2"

	"github.com/klauspost/compress/zstd"
)

// Layer is the entries of one layer, in the order of the archive.
type Layer []Entry

// Entry is one tar entry. Its header is written as it stands, so a test can
// make any entry that the tar format can express.
type Entry struct {
	tar.Header
	Body []byte
}

// Dir returns a directory entry.
func Dir(name string, mode int64) Entry {
	return Entry{Header: tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: mode}}
}

// File returns a regular file.
func File(name string, mode int64, body []byte) Entry {
	return Entry{Header: tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode, Size: int64(len(body))}, Body: body}
}

// Symlink returns a symbolic link.
func Symlink(name, target string) Entry {
	return Entry{Header: tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target, Mode: 0o777}}
}

// Hardlink returns a hard link to an entry that came before.
func Hardlink(name, target string) Entry {
	return Entry{Header: tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: target, Mode: 0o644}}
}

// CharDevice returns a character device node.
func CharDevice(name string, major, minor int64) Entry {
	return Entry{Header: tar.Header{Typeflag: tar.TypeChar, Name: name, Mode: 0o666, Devmajor: major, Devminor: minor}}
}

// Whiteout returns the marker that deletes base in dir from the layers below.
func Whiteout(dir, base string) Entry {
	return File(dir+"/.wh."+base, 0, nil)
}

// Opaque returns the marker that hides all that lower layers have in dir.
func Opaque(dir string) Entry {
	return File(dir+"/.wh..wh..opq", 0, nil)
}

// Owned returns a copy of e with another owner.
func (e Entry) Owned(uid, gid int) Entry {
	e.Uid, e.Gid = uid, gid
	return e
}

// Random returns a layer with one file of size bytes that do not compress.
func Random(name string, size int, seed uint64) Layer {
	body := make([]byte, size)
	r := rand.New(rand.NewPCG(seed, 0))
	for i := 0; i+8 <= size; i += 8 {
		v := r.Uint64()
		for j := range 8 {
			body[i+j] = byte(v >> (8 * j))
		}
	}
	return Layer{File(name, 0o644, body)}
}

// Tar returns the layer as an uncompressed archive.
func (l Layer) Tar() ([]byte, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range l {
		h := e.Header
		if h.ModTime.IsZero() {
			h.ModTime = Created
		}
		if err := w.WriteHeader(&h); err != nil {
			return nil, fmt.Errorf("cannot write the entry %q: %w", h.Name, err)
		}
		if _, err := w.Write(e.Body); err != nil {
			return nil, fmt.Errorf("cannot write the entry %q: %w", h.Name, err)
		}
	}
	if err := w.Close(); err != nil { // it writes the end of the archive
		return nil, err
	}
	return b.Bytes(), nil
}

// Compression says how a layer or a whole archive is compressed.
type Compression string

// The compressions that engines must read.
const (
	None Compression = ""
	Gzip Compression = "gzip"
	Zstd Compression = "zstd"
)

// Compress returns b in the compression c.
func Compress(b []byte, c Compression) ([]byte, error) {
	var out bytes.Buffer
	w, err := c.writer(&out)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(b); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

func (c Compression) writer(w io.Writer) (io.WriteCloser, error) {
	switch c {
	case None:
		return nopCloser{w}, nil
	case Gzip:
		return gzip.NewWriterLevel(w, gzip.BestSpeed)
	case Zstd:
		return zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
	}
	return nil, fmt.Errorf("unknown compression %q", c)
}

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }
