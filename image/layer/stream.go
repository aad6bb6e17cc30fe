package layer

import (
	"bufio"
	"errors"
	"io"
	"os"

	"github.com/klauspost/compress/gzip"
	"github.com/vbatts/tar-split/tar/asm"
	"github.com/vbatts/tar-split/tar/storage"
)

// Stream returns the tar stream that was unpacked to dir, byte for byte, from
// its gzip-compressed tar-split record. It takes over split. Files are opened
// below dir only, whatever links lie there.
func Stream(split io.ReadCloser, dir string) (io.ReadCloser, error) {
	headers, err := gzip.NewReader(bufio.NewReader(split))
	if err != nil {
		return nil, errors.Join(err, split.Close())
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, errors.Join(err, split.Close())
	}
	s := &stream{root: root, split: split}
	s.ReadCloser = asm.NewOutputTarStream(files{root}, storage.NewJSONUnpacker(headers))
	return s, nil
}

type stream struct {
	io.ReadCloser
	root  *os.Root
	split io.Closer
}

func (s *stream) Close() error {
	return errors.Join(s.ReadCloser.Close(), s.root.Close(), s.split.Close())
}

// files gives the content of the layer's files to the tar-split reader.
type files struct{ root *os.Root }

func (f files) Get(name string) (io.ReadCloser, error) {
	clean, err := cleanName(name)
	if err != nil {
		return nil, err
	}
	return f.root.Open(clean)
}
