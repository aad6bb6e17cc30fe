package archive

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"
	"time"

	pathrs "github.com/cyphar/filepath-securejoin/pathrs-lite"
	"golang.org/x/sys/unix"

	"github.com/kelp-engine/kelp/engine/fault"
	"github.com/kelp-engine/kelp/image/layer"
)

// Owner is a user and a group of the container.
type Owner struct{ UID, GID uint32 }

// ExtractOptions say how an archive is extracted.
type ExtractOptions struct {
	// KeepTypes refuses to put a directory in the place of another file, or
	// the other way round.
	KeepTypes bool
	// Owner, when set, owns everything; else who the archive says.
	Owner *Owner
	// MaxID is the last user and group id that there is. Files of others,
	// such as users of a directory service, become root's.
	MaxID uint32
}

// Extract writes the content of a tar stream, compressed or not, into a
// directory of the container.
func (t *Tree) Extract(ctx context.Context, r io.Reader, dir string, o ExtractOptions) error {
	dest, err := t.open(dir, true)
	if err != nil {
		return err
	}
	defer dest.Close()
	if info, err := dest.Stat(); err != nil {
		return err
	} else if !info.IsDir() {
		return fault.InvalidArgument("extraction point is not a directory")
	}
	if err := t.checkWritable(dir); err != nil {
		return err
	}
	plain, _, err := layer.Decompress(r)
	if err != nil {
		return fault.InvalidArgument("cannot read the archive: %w", err)
	}
	defer plain.Close()
	x := &extractor{tree: t, dest: path.Join("/", dir), o: o, buf: make([]byte, 128<<10)}
	defer x.dropParent()
	return x.run(ctx, tar.NewReader(plain))
}

// extractor writes one archive.
type extractor struct {
	tree *Tree
	dest string
	o    ExtractOptions
	buf  []byte

	// parent is the directory of the last entry, by its path.
	parent     *os.File
	parentPath string
	// times of directories are set when nothing is made in them any more.
	times []dirTime
}

type dirTime struct {
	path string
	at   time.Time
}

func (x *extractor) run(ctx context.Context, r *tar.Reader) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		hdr, err := r.Next()
		if errors.Is(err, io.EOF) {
			return x.setTimes()
		}
		if err != nil {
			return fault.InvalidArgument("cannot read the archive: %w", err)
		}
		if err := x.entry(hdr, r); err != nil {
			return readOnlyError(err)
		}
	}
}

// readOnlyError says of which file system it is that an entry met a read-only
// mount in the middle of the tree.
func readOnlyError(err error) error {
	if errors.Is(err, unix.EROFS) {
		return fault.PermissionDenied("mounted volume is marked read-only: %w", err)
	}
	return err
}

func (x *extractor) entry(hdr *tar.Header, content io.Reader) error {
	if hdr.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	name, err := entryName(hdr.Name)
	if err != nil {
		return err
	}
	if name == "." {
		return nil // the directory is there, and stays as it is
	}
	parent, err := x.open(path.Dir(name))
	if errors.Is(err, unix.ENOTDIR) {
		return fault.InvalidArgument("cannot make the directory of %s: something else is in its place", hdr.Name)
	}
	if err != nil {
		return fmt.Errorf("cannot make the directory of %s: %w", hdr.Name, err)
	}
	base := path.Base(name)
	if err := x.clear(parent, base, hdr); err != nil {
		return err
	}
	if err := x.make(parent, base, hdr, content); err != nil {
		return fmt.Errorf("cannot extract %s: %w", hdr.Name, err)
	}
	return nil
}

// entryName is the name of an entry relative to the directory it goes to.
func entryName(name string) (string, error) {
	clean := path.Clean(strings.TrimLeft(name, "/"))
	if clean == ".." || strings.HasPrefix(clean, "../") || strings.ContainsRune(clean, 0) {
		return "", fault.InvalidArgument("the archive is refused: its entry %q is outside of the directory it goes to", name)
	}
	return clean, nil
}

// open returns a directory below the destination, which is made if needed.
// Links in it are followed as the container's processes would.
func (x *extractor) open(dir string) (*os.File, error) {
	full := path.Join(x.dest, dir)
	if x.parent != nil && x.parentPath == full {
		return x.parent, nil
	}
	f, err := pathrs.MkdirAllHandle(x.tree.root, full, 0o755)
	if err != nil {
		return nil, err
	}
	x.dropParent()
	x.parent, x.parentPath = f, full
	return f, nil
}

func (x *extractor) dropParent() {
	if x.parent != nil {
		x.parent.Close()
		x.parent = nil
	}
}

// clear takes away what stands where the entry goes; a directory stays for a
// directory.
func (x *extractor) clear(parent *os.File, base string, hdr *tar.Header) error {
	var st unix.Stat_t
	err := unix.Fstatat(int(parent.Fd()), base, &st, unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot look at %s: %w", hdr.Name, err)
	}
	isDir, wantDir := st.Mode&unix.S_IFMT == unix.S_IFDIR, hdr.Typeflag == tar.TypeDir
	switch {
	case isDir && wantDir:
		return nil
	case isDir && x.o.KeepTypes:
		return fault.InvalidArgument("cannot overwrite directory %q with non-directory %q", hdr.Name, x.dest)
	case wantDir && x.o.KeepTypes:
		return fault.InvalidArgument("cannot overwrite non-directory %q with directory %q", hdr.Name, x.dest)
	case !isDir:
		if err := unix.Unlinkat(int(parent.Fd()), base, 0); err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("cannot replace %s: %w", hdr.Name, err)
		}
		return nil
	}
	return removeAll(parent, base)
}

// removeAll removes a directory with all in it and follows no link.
func removeAll(parent *os.File, base string) error {
	root, err := os.OpenRoot(fdPath(int(parent.Fd())))
	if err != nil {
		return err
	}
	defer root.Close()
	return root.RemoveAll(base)
}

// setTimes sets directories' times, the deepest first.
func (x *extractor) setTimes() error {
	for i := len(x.times) - 1; i >= 0; i-- {
		d := x.times[i]
		f, err := x.tree.open(d.path, false)
		if err != nil {
			continue // a later entry took its place
		}
		err = setTime(f, d.at)
		f.Close()
		if err != nil {
			return fmt.Errorf("cannot set the time of %s: %w", d.path, err)
		}
	}
	return nil
}
