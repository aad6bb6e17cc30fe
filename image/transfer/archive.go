package transfer

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"path"
	"path/filepath"
	"strings"
	"sync"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/kelp-engine/kelp/engine/fault"
	"github.com/kelp-engine/kelp/image"
	"github.com/kelp-engine/kelp/image/layer"
	"github.com/kelp-engine/kelp/userns/reserve"
)

// Bounds of an image archive.
const (
	maxArchiveEntries   = 100_000
	maxArchiveDocuments = 64 << 20 // bytes of JSON and of names kept in memory
	maxLinks            = 8
)

// archive is an image archive that has been read once from its beginning to
// its end. Its layers were unpacked as they came. Which of them are wanted is
// known only afterwards, because archives have their manifest last.
type archive struct {
	store *image.Store
	// documents are the small files, by path.
	documents map[string][]byte
	// layers are the files that hold a layer, by path.
	layers map[string]archived
	// links are symbolic and hard links: old archives have them for layers
	// that several images share.
	links map[string]string
	kept  int64 // bytes of documents and names
	// rootFS says that it looks like a root file system.
	rootFS bool

	group  *errgroup.Group // unpacks compressed layers
	mu     sync.Mutex      // of layers and staged, while group is at work
	staged stagedSet
}

// archived is what became of a layer in the archive: its content's digest, or
// why it could not be unpacked. Only a layer that is wanted makes it an error.
type archived struct {
	diffID digest.Digest
	blob   digest.Digest // of the file itself
	err    error
}

// readArchive reads an archive, plain or compressed.
func readArchive(ctx context.Context, store *image.Store, r io.Reader, note func(name string, size int64) func(io.Reader) io.Reader) (*archive, error) {
	plain, _, err := layer.Decompress(untilDone(ctx, r))
	if err != nil {
		return nil, invalidArchive(err)
	}
	defer plain.Close()
	a := &archive{
		store: store, documents: map[string][]byte{}, layers: map[string]archived{},
		links: map[string]string{}, staged: stagedSet{},
	}
	a.group, ctx = errgroup.WithContext(ctx)
	a.group.SetLimit(maxParallel)
	err = a.readEntries(ctx, plain, note)
	if werr := a.group.Wait(); werr != nil {
		err = werr // what broke first
	}
	if err != nil {
		return nil, errors.Join(a.explain(err), a.close())
	}
	return a, nil
}

// explain says what else than an image the archive may be.
func (a *archive) explain(err error) error {
	if a.rootFS && errdefs.IsInvalidArgument(err) {
		return fault.InvalidArgument("%w", err).WithHint("a root file system, which this seems to be, becomes an image with 'docker import'")
	}
	return err
}

func (a *archive) readEntries(ctx context.Context, plain io.Reader, note func(string, int64) func(io.Reader) io.Reader) error {
	tr := tar.NewReader(plain)
	for n := 0; ; n++ {
		hdr, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return invalidArchive(err)
		}
		if n == maxArchiveEntries {
			return fault.InvalidArgument("invalid image archive: it has more than %d entries", maxArchiveEntries)
		}
		if err := a.addEntry(ctx, hdr, tr, note); err != nil {
			return err
		}
	}
	// What follows the end of the archive belongs to the stream: a compressed
	// one keeps its checksum there.
	if _, err := io.Copy(io.Discard, plain); err != nil {
		return invalidArchive(err)
	}
	return nil
}

func invalidArchive(err error) error {
	if errors.Is(err, context.Canceled) {
		return err
	}
	return fault.InvalidArgument("cannot read the image archive: %w", err)
}

func (a *archive) close() error { return a.staged.discard() }

func (a *archive) addEntry(ctx context.Context, hdr *tar.Header, r io.Reader, note func(string, int64) func(io.Reader) io.Reader) error {
	name, err := archivePath(hdr.Name)
	if err != nil {
		return err
	}
	a.rootFS = a.rootFS || name == "etc"
	if a.kept += int64(len(hdr.Name) + len(hdr.Linkname)); a.kept > maxArchiveDocuments {
		return fault.InvalidArgument("invalid image archive: its names are too long")
	}
	switch hdr.Typeflag {
	case tar.TypeSymlink:
		target, err := archivePath(path.Join(path.Dir(name), hdr.Linkname))
		if err == nil && !path.IsAbs(hdr.Linkname) { // else it leads to nothing
			a.links[name] = target
		}
	case tar.TypeLink:
		target, err := archivePath(hdr.Linkname)
		if err != nil {
			return err
		}
		a.links[name] = target
	case tar.TypeReg:
		return a.addFile(ctx, name, hdr.Size, r, note)
	}
	return nil
}

// archivePath cleans the path of an archive's entry.
func archivePath(name string) (string, error) {
	clean := path.Clean(strings.TrimLeft(name, "/"))
	if clean != "." && !filepath.IsLocal(clean) {
		return "", fault.InvalidArgument("invalid image archive: the entry %q lies outside of it", name)
	}
	return clean, nil
}

func (a *archive) addFile(ctx context.Context, name string, size int64, r io.Reader, note func(string, int64) func(io.Reader) io.Reader) error {
	b := bufio.NewReaderSize(r, 64<<10)
	head, err := b.Peek(512)
	if err != nil && !errors.Is(err, io.EOF) {
		return invalidArchive(err)
	}
	switch {
	case isDocument(head):
		return a.addDocument(name, size, b)
	case isLayer(name, head):
		return a.addLayer(ctx, name, bufio.NewReaderSize(note(name, size)(b), 256<<10))
	}
	return nil
}

// isDocument tells JSON by its beginning.
func isDocument(head []byte) bool {
	head = bytes.TrimLeft(head, " \t\r\n")
	return len(head) > 0 && (head[0] == '{' || head[0] == '[')
}

// isLayer tells a tar file, plain or compressed. A layer without files is
// zeros only.
func isLayer(name string, head []byte) bool {
	if layer.Detect(head) != layer.None || len(head) > 262 && string(head[257:262]) == "ustar" {
		return true
	}
	return strings.HasSuffix(name, ".tar") || len(head) == 512 && len(bytes.Trim(head, "\x00")) == 0
}

func (a *archive) addDocument(name string, size int64, r io.Reader) error {
	if a.kept += size; size > image.MaxConfig || a.kept > maxArchiveDocuments {
		return fault.InvalidArgument("invalid image archive: its documents are too large (%q has %d bytes)", name, size)
	}
	doc, err := io.ReadAll(r)
	if err != nil {
		return invalidArchive(err)
	}
	a.documents[name] = doc
	return nil
}

// addLayer unpacks a layer. A compressed one goes to a temporary file first,
// so that the layers that follow it are decompressed at the same time.
func (a *archive) addLayer(ctx context.Context, name string, r *bufio.Reader) error {
	if want, ok := blobDigest(name); ok {
		if diffID, ok := a.knownLayer(want); ok {
			a.mu.Lock()
			a.layers[name] = archived{diffID: diffID, blob: want}
			a.mu.Unlock()
			_, err := io.Copy(io.Discard, r)
			return err
		}
	}
	head, err := r.Peek(6)
	if err != nil && !errors.Is(err, io.EOF) {
		return invalidArchive(err)
	}
	c := layer.Detect(head)
	if c == layer.None {
		st, err := a.store.Stage(ctx, r)
		return a.keepLayer(ctx, name, st, err, ocispec.Descriptor{})
	}
	f, err := a.store.TempFile()
	if err != nil {
		return err
	}
	h := newHashed(r)
	if _, err := io.CopyBuffer(f, h, make([]byte, 256<<10)); err != nil {
		return errors.Join(layer.SpaceError(a.store.TempDir(), err), f.Close())
	}
	blob, err := h.rest()
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		return errors.Join(err, f.Close())
	}
	a.group.Go(func() error {
		defer f.Close()
		st, err := a.store.Stage(ctx, untilDone(ctx, f))
		return a.keepLayer(ctx, name, st, err, ocispec.Descriptor{MediaType: mediaTypeOf(c), Digest: blob, Size: h.n})
	})
	return nil
}

// notTheLayers says whether it is no fault of a layer's that it was not
// unpacked.
func notTheLayers(ctx context.Context, err error) bool {
	return ctx.Err() != nil || reserve.IsFull(err)
}

// keepLayer notes what became of a layer. That it cannot be unpacked is an
// error only when an image needs it.
func (a *archive) keepLayer(ctx context.Context, name string, st *image.Staged, err error, blob ocispec.Descriptor) error {
	if err != nil && notTheLayers(ctx, err) {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if err != nil {
		a.layers[name] = archived{err: err}
		return nil
	}
	if blob.Digest == "" {
		blob.Digest = st.DiffID
	}
	st.Came(blob)
	a.layers[name] = archived{diffID: st.DiffID, blob: blob.Digest}
	return a.staged.add(st)
}

// mediaTypeOf is how a manifest calls a layer in this compression; registries
// take no others than these.
func mediaTypeOf(c layer.Compression) string {
	switch c {
	case layer.Gzip:
		return ocispec.MediaTypeImageLayerGzip
	case layer.Zstd:
		return ocispec.MediaTypeImageLayerZstd
	}
	return ""
}

// knownLayer finds the layer in the store whose file has this digest.
func (a *archive) knownLayer(blob digest.Digest) (digest.Digest, bool) {
	if a.store.HasDiff(blob) {
		return blob, true
	}
	return a.store.DiffOf(blob)
}

// blobDigest reads the digest from the name of an OCI layout's blob.
func blobDigest(name string) (digest.Digest, bool) {
	hex, ok := strings.CutPrefix(name, "blobs/sha256/")
	d := digest.NewDigestFromEncoded(digest.SHA256, hex)
	return d, ok && d.Validate() == nil
}

// follow resolves links inside the archive.
func (a *archive) follow(name string) (string, error) {
	clean, err := archivePath(name)
	if err != nil {
		return "", err
	}
	for range maxLinks {
		target, ok := a.links[clean]
		if !ok {
			return clean, nil
		}
		clean = target
	}
	return "", fault.InvalidArgument("invalid image archive: too many links at %q", name)
}

// document returns the small file at name.
func (a *archive) document(name string) ([]byte, error) {
	at, err := a.follow(name)
	if err != nil {
		return nil, err
	}
	doc, ok := a.documents[at]
	if !ok {
		return nil, fault.InvalidArgument("invalid image archive: %s is missing", name)
	}
	return doc, nil
}

// layer returns the layer at name, which must have the content diffID.
func (a *archive) layer(name string, diffID digest.Digest) (archived, error) {
	at, err := a.follow(name)
	if err != nil {
		return archived{}, err
	}
	l, ok := a.layers[at]
	switch {
	case !ok:
		return l, fault.InvalidArgument("invalid image archive: layer %s is missing", name)
	case l.err != nil:
		return l, fault.InvalidArgument("invalid image archive: layer %s is refused: %w", name, l.err)
	case diffID != "" && l.diffID != diffID:
		return l, fault.InvalidArgument("invalid image archive: layer %s has the content %s, but the image's configuration says %s", name, l.diffID, diffID)
	}
	return l, nil
}

// blob returns the document with this digest of an OCI layout.
func (a *archive) blob(d digest.Digest, size int64) ([]byte, error) {
	if err := d.Validate(); err != nil || d.Algorithm() != digest.SHA256 {
		return nil, fault.InvalidArgument("invalid image archive: %q is no digest", d)
	}
	doc, err := a.document("blobs/sha256/" + d.Encoded())
	if err != nil {
		return nil, err
	}
	if int64(len(doc)) != size || digest.FromBytes(doc) != d {
		return nil, fault.InvalidArgument("invalid image archive: blob %s has %d bytes and the digest %s, but %d bytes are expected",
			d, len(doc), digest.FromBytes(doc), size)
	}
	return doc, nil
}

var errNoImage = errors.New("it has no manifest.json and no index.json")
