// Package transfer brings images into the store and out of it: archives
// (load, save, import) and registries (pull, push, search).
//
// It must not keep state of its own, and takes registry credentials from the
// request only, never from files of the user.
package transfer

import (
	"context"
	"crypto/sha256"
	"errors"
	"hash"
	"io"
	"net/http"

	"github.com/moby/moby/api/types/jsonstream"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.podman.io/image/v5/pkg/blobinfocache/none"

	"github.com/kelp-engine/kelp/engine/fault"
	"github.com/kelp-engine/kelp/image"
)

// Progress takes the messages of a transfer, from several goroutines.
type Progress func(jsonstream.Message)

// Options of a Manager.
type Options struct {
	// CertDirs are searched in order for HOST[:PORT]/ with *.crt, *.cert and
	// *.key files for registries with certificates of their own.
	CertDirs []string
	Insecure Insecure
	// UserAgent is what registries see.
	UserAgent string
}

// Manager moves images between a store and the world.
type Manager struct {
	store *image.Store
	o     Options
	http  *http.Client // for search and import
	pulls shared
}

// noCache: the store itself remembers the blobs that its layers came from.
var noCache = none.NoCache

// New returns a manager of the store.
func New(store *image.Store, o Options) *Manager {
	return &Manager{store: store, o: o, http: &http.Client{}, pulls: shared{fetching: map[digest.Digest]*fetching{}}}
}

// stagedSet is the staged layers of one transfer, by their content.
type stagedSet map[digest.Digest]*image.Staged

// add keeps st, unless the same layer is there already.
func (s stagedSet) add(st *image.Staged) error {
	if s[st.DiffID] != nil {
		return st.Discard()
	}
	s[st.DiffID] = st
	return nil
}

// discard gives up what no image took.
func (s stagedSet) discard() error {
	var errs []error
	for _, st := range s {
		errs = append(errs, st.Discard())
	}
	return errors.Join(errs...)
}

// hashed computes the digest of what is read through it.
type hashed struct {
	r io.Reader
	h hash.Hash
	n int64
}

func newHashed(r io.Reader) *hashed { return &hashed{r: r, h: sha256.New()} }

func (h *hashed) Read(b []byte) (int, error) {
	n, err := h.r.Read(b)
	h.h.Write(b[:n])
	h.n += int64(n)
	return n, err
}

// rest reads what is left and returns the digest of all.
func (h *hashed) rest() (digest.Digest, error) {
	if _, err := io.Copy(io.Discard, h); err != nil {
		return "", err
	}
	return digest.NewDigest(digest.SHA256, h.h), nil
}

// readLimited reads all of r, which must not be longer than limit.
func readLimited(r io.Reader, limit int64, what string) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > limit {
		return nil, fault.InvalidArgument("invalid image: %s is larger than %d bytes", what, limit)
	}
	return b, nil
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(b []byte) (int, error) { return f(b) }

// untilDone is r until ctx ends.
func untilDone(ctx context.Context, r io.Reader) io.Reader {
	return readerFunc(func(b []byte) (int, error) {
		if ctx.Err() != nil {
			return 0, context.Cause(ctx)
		}
		return r.Read(b)
	})
}

// MatchesPlatform reports whether an image for have serves a client that
// wants want; what want leaves open matches anything.
func MatchesPlatform(have, want ocispec.Platform) bool {
	return (want.OS == "" || have.OS == want.OS) &&
		(want.Architecture == "" || have.Architecture == want.Architecture) &&
		(want.Variant == "" || have.Variant == want.Variant)
}

// PlatformText is how Docker writes a platform.
func PlatformText(p ocispec.Platform) string {
	text := p.OS + "/" + p.Architecture
	if p.Variant != "" {
		text += "/" + p.Variant
	}
	return text
}

// shortID is how progress names a blob.
func shortID(d digest.Digest) string { return d.Encoded()[:12] }
