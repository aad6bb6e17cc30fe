package layer

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc64"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	"github.com/vbatts/tar-split/archive/tar"
	"github.com/vbatts/tar-split/tar/storage"
	"golang.org/x/sys/unix"
)

// Unpack reads the plain tar stream r to its end and makes its content in
// dir, an empty directory. On error dir holds a part of it and the caller
// removes it.
//
// Preconditions: whoever cancels ctx also makes r.Read return.
func Unpack(ctx context.Context, r io.Reader, dir string, o Options) (_ *Result, err error) {
	if o.Limits == (Limits{}) {
		o.Limits = DefaultLimits
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	split, err := unnamedFile(filepath.Dir(dir))
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			split.Close()
		}
	}()

	sum := sha256.New()
	p := newPipeline(r, sum)
	defer p.Close()
	t := newTree(root, dir, o)
	rec := newRecorder(p, split, &t.space)
	defer t.close()
	if err := unpackEntries(ctx, rec, t, o.Limits.Entries); err != nil {
		return nil, err
	}
	if err := errors.Join(rec.finish(p), t.finish()); err != nil {
		return nil, err
	}
	p.Close() // the hash is complete only now
	return &Result{
		DiffID:   digest.NewDigest(digest.SHA256, sum),
		Size:     p.size,
		UIDs:     sortedKeys(t.uids),
		GIDs:     sortedKeys(t.gids),
		RootMode: t.rootMode,
		TarSplit: split,
	}, nil
}

func unpackEntries(ctx context.Context, rec *recorder, t *tree, limit int) error {
	for n := 0; ; n++ {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		hdr, err := rec.next()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("cannot read the layer's tar stream: %w", err)
		case n >= limit:
			return refused(fmt.Sprintf("it has more than %d entries", limit))
		}
		if err := t.add(hdr, rec); err != nil {
			return &EntryError{Name: hdr.Name, Err: err}
		}
		if err := rec.endEntry(hdr); err != nil {
			return &EntryError{Name: hdr.Name, Err: err}
		}
	}
}

// recorder reads a tar stream and writes its headers to a tar-split file. It
// is the io.Reader of the current entry's content.
type recorder struct {
	tr     *tar.Reader
	out    *bufio.Writer
	packer storage.Packer
	crc    uint64
	read   int64
	total  int64 // bytes recorded
	space  *spaceCheck
}

// maxPadding is how much may follow the end of an archive; tar pads to its
// record size, 10 KiB unless told otherwise.
const maxPadding = 4 << 20

func newRecorder(src io.Reader, split *os.File, space *spaceCheck) *recorder {
	out := bufio.NewWriterSize(split, 64<<10)
	rec := &recorder{space: space, tr: tar.NewReader(src), out: out, packer: storage.NewJSONPacker(out)}
	rec.tr.RawAccounting = true
	return rec
}

func (rec *recorder) next() (*tar.Header, error) {
	hdr, err := rec.tr.Next()
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if err := rec.segment(rec.tr.RawBytes()); err != nil {
		return nil, err
	}
	rec.crc, rec.read = 0, 0
	return hdr, err
}

// Read reads the content of the current entry.
func (rec *recorder) Read(b []byte) (int, error) {
	n, err := rec.tr.Read(b)
	rec.crc = crc64.Update(rec.crc, storage.CRCTable, b[:n])
	rec.read += int64(n)
	return n, err
}

// endEntry records the entry whose content has been read, or skips it.
func (rec *recorder) endEntry(hdr *tar.Header) error {
	e := storage.Entry{Type: storage.FileType, Size: hdr.Size}
	if hdr.Size > 0 {
		if rec.read < hdr.Size {
			if _, err := io.Copy(io.Discard, rec); err != nil {
				return err
			}
		}
		e.Payload = binary.BigEndian.AppendUint64(nil, rec.crc)
	}
	rec.total += hdr.Size
	e.SetName(hdr.Name)
	if _, err := rec.packer.AddEntry(e); errors.Is(err, storage.ErrDuplicatePath) {
		return refused("it is in the layer twice")
	} else if err != nil {
		return err
	}
	return rec.segment(rec.tr.RawBytes())
}

func (rec *recorder) segment(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	rec.total += int64(len(b))
	if err := rec.space.want(2 * int64(len(b))); err != nil { // it is written as base64
		return err
	}
	_, err := rec.packer.AddEntry(storage.Entry{Type: storage.SegmentType, Payload: b})
	return err
}

// finish records what follows the end of the archive, up to the stream's end.
func (rec *recorder) finish(p *pipeline) error {
	padding := make([]byte, 32<<10)
	for total := 0; ; {
		n, err := p.Read(padding)
		if total += n; total > maxPadding {
			return refused(fmt.Sprintf("more than %d bytes follow the end of its archive", maxPadding))
		}
		if err := rec.segment(padding[:n]); err != nil {
			return err
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
	}
	// The tar reader swallows a last block that is cut short.
	if lost := p.size - rec.total; lost < 0 || lost > int64(len(p.tail)) {
		return refused("its tar stream is damaged at the end")
	} else if err := rec.segment(p.tail[int64(len(p.tail))-lost:]); err != nil {
		return err
	}
	return rec.out.Flush()
}

// unnamedFile opens a file in dir that is gone when it is closed.
func unnamedFile(dir string) (*os.File, error) {
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err == nil {
		return os.NewFile(uintptr(fd), filepath.Join(dir, "(unnamed)")), nil
	}
	f, err := os.CreateTemp(dir, ".unnamed-")
	if err != nil {
		return nil, err
	}
	return f, os.Remove(f.Name())
}

func sortedKeys(m map[uint32]struct{}) []uint32 {
	keys := make([]uint32, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// cleanName returns an entry's path relative to the layer's root, "." for the
// root itself.
func cleanName(name string) (string, error) {
	switch {
	case strings.ContainsRune(name, 0):
		return "", refused("its name has a zero byte")
	case len(name) >= unix.PathMax: // of no use to programs, and remembered to the layer's end
		return "", refused(fmt.Sprintf("its name has more than %d bytes", unix.PathMax-1))
	}
	clean := filepath.Clean(strings.TrimLeft(name, "/"))
	if !filepath.IsLocal(clean) {
		return "", refused("it lies outside the layer")
	}
	return clean, nil
}
