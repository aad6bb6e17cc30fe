package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.podman.io/storage"
	drivers "go.podman.io/storage/drivers"
	"go.podman.io/storage/pkg/archive"

	"github.com/kelp-engine/kelp/image/layer"
)

// layers is the part of a Store that takes layers in and gives them out.
type layers struct{ *core }

// Staged is a layer that lies unpacked in the store but belongs to no image
// yet. It needs no parent, so layers of one image can be unpacked at the same
// time. Its owner hands it to Assemble or discards it.
type Staged struct {
	// DiffID is the digest of the layer's plain tar stream.
	DiffID digest.Digest
	// Size is the length of that stream.
	Size int64

	store  layers
	output *drivers.DriverWithDifferOutput // overlay
	spool  *os.File                        // other drivers: the plain stream
}

// Stage unpacks the layer that r holds, plain or compressed, reading r to its
// end. Whoever cancels ctx also makes r.Read return.
func (s layers) Stage(ctx context.Context, r io.Reader) (*Staged, error) {
	plain, _, err := layer.Decompress(r)
	if err != nil {
		return nil, err
	}
	defer plain.Close()
	driver, err := s.store.GraphDriver()
	if err != nil {
		return nil, err
	}
	if _, ok := driver.(drivers.DriverWithDiffer); !ok {
		return s.stageInFile(ctx, plain)
	}
	d := differ(func(dest string, ignoreOwner bool) (*layer.Result, error) {
		return layer.Unpack(ctx, plain, dest, layer.Options{OpaqueXattr: s.opaque, IgnoreOwner: ignoreOwner})
	})
	out, err := s.store.PrepareStagedLayer(nil, d)
	if err != nil {
		if out != nil && out.Target != "" {
			err = errors.Join(err, s.store.CleanupStagedLayer(out))
		}
		return nil, err
	}
	return &Staged{DiffID: out.UncompressedDigest, Size: out.Size, store: s, output: out}, nil
}

// Discard gives up the layer. It does nothing after Assemble has used it.
func (st *Staged) Discard() error {
	if st.spool != nil {
		err := st.spool.Close()
		st.spool = nil
		return err
	}
	if st.output == nil {
		return nil
	}
	err := st.store.store.CleanupStagedLayer(st.output)
	st.output = nil
	return err
}

func (st *Staged) used() bool { return st.output == nil && st.spool == nil }

// Came records the compressed form that the layer came in. The caller has
// verified it.
func (st *Staged) Came(blob ocispec.Descriptor) {
	if st.output == nil || blob.Digest == st.DiffID || blob.MediaType == "" {
		return
	}
	text, err := json.Marshal(blob)
	if err != nil {
		return // plain data
	}
	st.output.CompressedDigest = blob.Digest
	st.output.Metadata = string(text)
}

// differ is how the overlay driver calls the unpacker.
type differ func(dest string, ignoreOwner bool) (*layer.Result, error)

// ApplyDiff unpacks the stream in dest.
func (d differ) ApplyDiff(dest string, to *archive.TarOptions, _ *drivers.DifferOptions) (drivers.DriverWithDifferOutput, error) {
	res, err := d(dest, to.IgnoreChownErrors)
	if err != nil {
		return drivers.DriverWithDifferOutput{}, err
	}
	if res.RootMode == nil { // Docker's mode for a root that no layer states; the driver gives a parent's
		if err := os.Chmod(dest, 0o755); err != nil {
			return drivers.DriverWithDifferOutput{}, errors.Join(err, res.TarSplit.Close())
		}
	}
	return drivers.DriverWithDifferOutput{
		Differ:             d,
		UncompressedDigest: res.DiffID,
		Size:               res.Size,
		UIDs:               res.UIDs,
		GIDs:               res.GIDs,
		RootDirMode:        res.RootMode,
		TarSplit:           res.TarSplit,
	}, nil
}

// Close implements drivers.Differ.
func (differ) Close() error { return nil }

// stageInFile keeps the plain stream for drivers that can only unpack onto a
// parent. Unpacking it to a directory that is thrown away is what checks it.
func (s layers) stageInFile(ctx context.Context, r io.Reader) (_ *Staged, err error) {
	f, err := s.TempFile()
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	check, err := os.MkdirTemp(s.tmp, "layer-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(check)
	dir := filepath.Join(check, "root")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	res, err := layer.Unpack(ctx, io.TeeReader(r, f), dir, layer.Options{OpaqueXattr: s.opaque, IgnoreOwner: s.ignore})
	if err != nil {
		return nil, err
	}
	return &Staged{DiffID: res.DiffID, Size: res.Size, store: s, spool: f}, res.TarSplit.Close()
}

// TempFile opens a file that is gone when it is closed.
func (s layers) TempFile() (*os.File, error) {
	f, err := os.CreateTemp(s.tmp, "spool-")
	if err != nil {
		return nil, err
	}
	return f, os.Remove(f.Name())
}

// commit makes the staged layer a layer of the store on top of parent.
//
// Preconditions: gc is held for reading, writes is held, and id is not there.
func (st *Staged) commit(id, parent string) error {
	if st.spool != nil {
		if _, err := st.spool.Seek(0, io.SeekStart); err != nil {
			return err
		}
		_, _, err := st.store.store.PutLayer(id, parent, nil, "", false, nil, st.spool)
		return errors.Join(err, st.Discard())
	}
	output := st.output
	st.output = nil // used up, whatever happens
	_, err := st.store.store.ApplyStagedLayer(storage.ApplyStagedLayerOptions{
		ID: id, ParentLayer: parent, DiffOutput: output,
		DiffOptions: &drivers.ApplyDiffWithDifferOpts{},
	})
	if cerr := st.store.store.CleanupStagedLayer(output); cerr != nil && err == nil {
		err = fmt.Errorf("cannot clean up after layer %s: %w", id, cerr)
	}
	return err
}
