package layer

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// Compression is how a stream is compressed.
type Compression string

// The compressions that Decompress knows.
const (
	None  Compression = "none"
	Gzip  Compression = "gzip"
	Zstd  Compression = "zstd"
	Bzip2 Compression = "bzip2"
	Xz    Compression = "xz"
)

// maxWindow bounds the memory that a stream may demand for decompression. It
// is what `zstd -d` and `xz -d` accept without being told otherwise.
const maxWindow = 128 << 20

var magics = []struct {
	compression Compression
	magic       []byte
}{
	{Gzip, []byte{0x1f, 0x8b}},
	{Zstd, []byte{0x28, 0xb5, 0x2f, 0xfd}},
	{Bzip2, []byte("BZh")},
	{Xz, []byte{0xfd, '7', 'z', 'X', 'Z', 0}},
}

// Detect tells the compression of a stream from its first bytes.
func Detect(head []byte) Compression {
	for _, m := range magics {
		if bytes.HasPrefix(head, m.magic) {
			return m.compression
		}
	}
	return None
}

// Decompress returns the plain content of r. Closing the result does not
// close r.
func Decompress(r io.Reader) (io.ReadCloser, Compression, error) {
	b, ok := r.(*bufio.Reader)
	if !ok {
		b = bufio.NewReaderSize(r, 256<<10)
	}
	head, err := b.Peek(6)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, "", err
	}
	c := Detect(head)
	plain, err := open(c, b)
	if err != nil {
		return nil, c, fmt.Errorf("cannot decompress %s data: %w", c, err)
	}
	return plain, c, nil
}

func open(c Compression, r io.Reader) (io.ReadCloser, error) {
	switch c {
	case Gzip:
		return gzip.NewReader(r)
	case Zstd:
		d, err := zstd.NewReader(r, zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderConcurrency(2))
		if err != nil {
			return nil, err
		}
		return d.IOReadCloser(), nil
	case Bzip2:
		return io.NopCloser(bzip2.NewReader(r)), nil
	case Xz:
		if err := checkXzDictionary(r.(*bufio.Reader)); err != nil {
			return nil, err
		}
		x, err := xz.NewReader(r)
		if err != nil {
			return nil, err
		}
		return io.NopCloser(x), nil
	default:
		return io.NopCloser(r), nil
	}
}

// checkXzDictionary looks at the first block's filter, because the decoder
// allocates whatever dictionary it asks for. Layout: a 12 byte stream header,
// then the block's size, flags, optional sizes, and filter id 0x21 with one
// property byte.
func checkXzDictionary(r *bufio.Reader) error {
	head, err := r.Peek(12 + 32)
	if len(head) < 18 {
		return err
	}
	block := head[12:]
	i := bytes.Index(block[2:], []byte{0x21, 0x01})
	if i < 0 || 2+i+2 >= len(block) {
		return nil // not LZMA2; the decoder refuses it
	}
	bits := block[2+i+2]
	if bits > 40 || uint64(2|bits&1)<<(bits/2+11) > maxWindow {
		return refused("its dictionary is larger than 128 MiB")
	}
	return nil
}
