// Package layer turns the tar stream of an image layer into a directory for
// the overlay file system, and records what is needed to make the very same
// stream again.
//
// Layers come from strangers. An entry can only ever touch the directory that
// it is unpacked into: every path is resolved below one directory handle, and
// a path that leaves it, an entry made twice, or one that hides behind another
// name fails the whole layer.
//
// It must not know about images, stores or registries.
package layer

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/opencontainers/go-digest"
)

// Limits bounds what one layer may ask of the machine.
type Limits struct {
	// Entries is how many tar entries a layer may have.
	Entries int
	// Reserve is how many bytes of the file system stay free.
	Reserve int64
}

// DefaultLimits hold for real images with room to spare.
var DefaultLimits = Limits{Entries: 4 << 20, Reserve: 16 << 20}

// Options for Unpack.
type Options struct {
	// OpaqueXattr is the extended attribute that makes a directory opaque:
	// user.overlay.opaque in a user namespace.
	OpaqueXattr string
	// IgnoreOwner keeps all files owned by the caller where the owner that
	// the layer names does not exist here.
	IgnoreOwner bool
	// Limits are DefaultLimits when zero.
	Limits Limits
}

// Result is what Unpack learned about a layer.
type Result struct {
	// DiffID is the digest of the uncompressed stream.
	DiffID digest.Digest
	// Size is the length of the uncompressed stream.
	Size int64
	// UIDs and GIDs are the owners that occur in the layer.
	UIDs, GIDs []uint32
	// RootMode is the mode of the root directory when the layer states it.
	RootMode *fs.FileMode
	// TarSplit holds the headers of the stream, as vbatts/tar-split writes
	// them. The caller closes it; it has no name.
	TarSplit *os.File
}

// EntryError says which entry of a layer was refused.
type EntryError struct {
	Name string
	Err  error
}

func (e *EntryError) Error() string {
	return fmt.Sprintf("layer entry %q: %v", e.Name, e.Err)
}

// Unwrap returns the cause.
func (e *EntryError) Unwrap() error { return e.Err }

// refused is why a layer was refused for its content.
type refused string

func (r refused) Error() string { return string(r) }

// Refused reports whether err says that the layer itself is unacceptable, as
// opposed to a failure of this machine.
func Refused(err error) bool {
	_, ok := errors.AsType[refused](err)
	return ok
}
