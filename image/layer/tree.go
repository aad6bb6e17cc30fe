package layer

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/vbatts/tar-split/archive/tar"
	"golang.org/x/sys/unix"
)

const (
	whiteoutPrefix = ".wh."
	opaqueName     = ".wh..wh..opq"
	metadataPrefix = ".wh..wh." // AUFS keeps its own files under such names
	xattrPrefix    = "SCHILY.xattr."
)

// tree makes the entries of a layer below one directory.
type tree struct {
	root  *os.Root
	dir   string // the root's path, for messages and free space only
	o     Options
	space spaceCheck

	uids, gids map[uint32]struct{}
	rootMode   *fs.FileMode
	dirTimes   []dirTime

	// parent is the directory of the last entry: most entries come right
	// after their neighbours, and nothing ever replaces a directory.
	parent     *os.File
	parentName string
	copyBuffer []byte
}

// dirTime is a directory's time, set when all its entries are made.
type dirTime struct {
	name string
	time time.Time
}

func newTree(root *os.Root, dir string, o Options) *tree {
	return &tree{
		root: root, dir: dir, o: o, space: spaceCheck{dir: dir, reserve: o.Limits.Reserve},
		uids: map[uint32]struct{}{}, gids: map[uint32]struct{}{},
		copyBuffer: make([]byte, 128<<10),
	}
}

func (t *tree) close() {
	if t.parent != nil {
		t.parent.Close()
		t.parent = nil
	}
}

// add makes one entry, reading its content from content.
func (t *tree) add(hdr *tar.Header, content io.Reader) error {
	if hdr.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	name, err := cleanName(hdr.Name)
	if err != nil {
		return err
	}
	if name == "." {
		return t.addRoot(hdr)
	}
	base := filepath.Base(name)
	if strings.HasPrefix(base, whiteoutPrefix) {
		return t.addWhiteout(hdr, name, base)
	}
	t.uids[uint32(hdr.Uid)] = struct{}{}
	t.gids[uint32(hdr.Gid)] = struct{}{}
	dirfd, err := t.openParent(filepath.Dir(name))
	if err != nil {
		return err
	}
	switch hdr.Typeflag {
	case tar.TypeReg, tar.TypeRegA, tar.TypeCont:
		return t.addFile(dirfd, base, hdr, content)
	case tar.TypeDir:
		t.dirTimes = append(t.dirTimes, dirTime{name, hdr.ModTime})
		return t.addDir(dirfd, base, hdr)
	case tar.TypeSymlink:
		return t.addSymlink(dirfd, base, hdr)
	case tar.TypeLink:
		return t.addLink(dirfd, base, hdr)
	case tar.TypeFifo:
		err := t.create(dirfd, base, func() error { return unix.Mkfifoat(dirfd, base, 0o600) })
		if err != nil {
			return err
		}
		return t.setMeta(dirfd, base, hdr)
	case tar.TypeChar, tar.TypeBlock:
		return nil // a user namespace has no device nodes; the engine offers devices itself
	case tar.TypeGNUSparse:
		return refused("sparse files are not supported: make the archive without --sparse")
	default:
		return refused(fmt.Sprintf("its type %q is unknown", hdr.Typeflag))
	}
}

func (t *tree) addRoot(hdr *tar.Header) error {
	if hdr.Typeflag != tar.TypeDir {
		return refused("the root is not a directory")
	}
	d, err := t.root.Open(".")
	if err != nil {
		return err
	}
	defer d.Close()
	mode := hdr.FileInfo().Mode()
	t.rootMode = &mode
	t.dirTimes = append(t.dirTimes, dirTime{".", hdr.ModTime})
	return t.setFileMeta(int(d.Fd()), hdr)
}

// openParent returns a handle of the directory name, which it makes when the
// layer has not done so. It follows symbolic links inside the layer only.
func (t *tree) openParent(name string) (int, error) {
	if t.parent != nil && t.parentName == name {
		return int(t.parent.Fd()), nil
	}
	d, err := t.root.OpenFile(name, os.O_RDONLY|unix.O_DIRECTORY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		if err = t.root.MkdirAll(name, 0o755); err == nil {
			d, err = t.root.OpenFile(name, os.O_RDONLY|unix.O_DIRECTORY, 0)
		}
	}
	if err != nil {
		return -1, t.parentError(name, err)
	}
	t.close()
	t.parent, t.parentName = d, name
	return int(d.Fd()), nil
}

// errHidden marks a whiteout below something that the layer itself removes.
var errHidden = errors.New("its directory is removed by the layer itself")

func (t *tree) parentError(name string, err error) error {
	var errno unix.Errno
	switch {
	case errors.As(err, &errno) && errno != unix.ENOTDIR && errno != unix.EEXIST && errno != unix.ELOOP:
		return SpaceError(t.dir, err)
	case t.underWhiteout(name):
		return refused(errHidden.Error())
	default:
		return refused(fmt.Sprintf("its directory is not one of the layer: %v", err))
	}
}

// underWhiteout reports whether name or a directory above it is a whiteout.
func (t *tree) underWhiteout(name string) bool {
	for ; name != "."; name = filepath.Dir(name) {
		if fi, err := t.root.Lstat(name); err == nil && isWhiteout(fi) {
			return true
		}
	}
	return false
}

func isWhiteout(fi fs.FileInfo) bool {
	st, ok := fi.Sys().(*unixStat)
	return ok && st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == 0
}

func (t *tree) finish() error {
	t.close()
	for i := len(t.dirTimes) - 1; i >= 0; i-- {
		d := t.dirTimes[i]
		if err := t.root.Chtimes(d.name, d.time, d.time); err != nil {
			return fmt.Errorf("cannot set the time of %s: %w", d.name, err)
		}
	}
	return nil
}
