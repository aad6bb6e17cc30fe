package archive

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kelp-engine/kelp/engine/fault"
)

// maxDepth bounds how deep directories may nest: each level holds a file open.
const maxDepth = 512

// capabilityXattr is the extended attribute that archives keep.
const (
	capabilityXattr = "security.capability"
	paxXattr        = "SCHILY.xattr."
)

// kernelTypes are the file systems that are the kernel's and no files of the
// container's; they are passed over unless asked for by name.
var kernelTypes = []int64{
	unix.PROC_SUPER_MAGIC, unix.SYSFS_MAGIC, unix.CGROUP_SUPER_MAGIC, unix.CGROUP2_SUPER_MAGIC,
	unix.DEVPTS_SUPER_MAGIC, 0x19800202, // mqueue
}

// Pack writes the file and, if it is a directory, all in it as a tar stream
// whose first name is that of the file.
func (t *Tree) Pack(ctx context.Context, w io.Writer, name string) error {
	f, err := t.open(name, follows(name))
	if err != nil {
		return err
	}
	defer f.Close()
	return pack(ctx, w, f, base(name), t.ids)
}

// pack writes what the handle is, by the name first. Of a directory named ""
// only the content is written.
func pack(ctx context.Context, w io.Writer, f *os.File, first string, ids IDs) error {
	p := packer{ids: ids, alive: ctx.Err, tar: tar.NewWriter(w), links: map[inode]string{}, buf: make([]byte, 128<<10)}
	if err := p.add(f, first, 0); err != nil {
		return err
	}
	return p.tar.Close()
}

type inode struct{ dev, ino uint64 }

// packer writes a tree. It lives as long as one call of pack.
type packer struct {
	ids   IDs
	alive func() error // why to stop, or nil
	tar   *tar.Writer
	links map[inode]string // first names of files that have several
	buf   []byte
}

// add writes the file of an O_PATH handle by its name in the archive.
func (p *packer) add(handle *os.File, name string, depth int) error {
	if err := p.alive(); err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(handle.Fd()), &st); err != nil {
		return fmt.Errorf("cannot read %s: %w", name, err)
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		return p.addFile(handle, name, st)
	case unix.S_IFDIR:
		return p.addDir(handle, name, depth)
	case unix.S_IFSOCK:
		return nil // archives have none
	case unix.S_IFCHR, unix.S_IFBLK:
		if depth > 0 {
			return nil // the host's, bound into /dev: containers can make none
		}
	}
	hdr := p.header(name, st)
	if hdr.Typeflag == tar.TypeSymlink {
		var err error
		if hdr.Linkname, err = readlink(int(handle.Fd())); err != nil {
			return err
		}
	}
	return p.tar.WriteHeader(hdr)
}

func (p *packer) header(name string, st unix.Stat_t) *tar.Header {
	uid, gid := p.ids.inside(st.Uid, st.Gid)
	h := &tar.Header{
		Name: name, Mode: int64(st.Mode & 0o7777), Uid: uid, Gid: gid,
		ModTime: time.Unix(st.Mtim.Unix()).Truncate(time.Second), Format: tar.FormatPAX,
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		h.Typeflag, h.Size = tar.TypeReg, st.Size
	case unix.S_IFDIR:
		h.Typeflag = tar.TypeDir
		if name != "/" {
			h.Name += "/"
		}
	case unix.S_IFLNK:
		h.Typeflag = tar.TypeSymlink
	case unix.S_IFIFO:
		h.Typeflag = tar.TypeFifo
	case unix.S_IFCHR:
		h.Typeflag = tar.TypeChar
	case unix.S_IFBLK:
		h.Typeflag = tar.TypeBlock
	}
	if h.Typeflag == tar.TypeChar || h.Typeflag == tar.TypeBlock {
		h.Devmajor, h.Devminor = int64(unix.Major(st.Rdev)), int64(unix.Minor(st.Rdev))
	}
	return h
}

func (p *packer) addFile(handle *os.File, name string, st unix.Stat_t) error {
	if st.Nlink > 1 {
		id := inode{st.Dev, st.Ino}
		if first, ok := p.links[id]; ok {
			h := p.header(name, st)
			h.Typeflag, h.Linkname, h.Size = tar.TypeLink, first, 0
			return p.tar.WriteHeader(h)
		}
		p.links[id] = name
	}
	f, err := reopen(handle, unix.O_RDONLY|unix.O_NONBLOCK)
	if err != nil {
		return fmt.Errorf("cannot read %s: %w", name, err)
	}
	defer f.Close()
	h := p.header(name, st)
	addXattrs(h, f)
	if err := p.tar.WriteHeader(h); err != nil {
		return err
	}
	return p.copy(name, f, st.Size)
}

// copy writes size bytes of f: a file that shrinks meanwhile is filled up
// with zeros, one that grows is cut.
func (p *packer) copy(name string, f *os.File, size int64) error {
	n, err := io.CopyBuffer(p.tar, io.LimitReader(reader{p.alive, f}, size), p.buf)
	if err != nil {
		return fmt.Errorf("cannot copy %s: %w", name, err)
	}
	if n < size {
		_, err = io.CopyBuffer(p.tar, io.LimitReader(zeros{}, size-n), p.buf)
	}
	return err
}

// reader reads a file until its user is gone.
type reader struct {
	alive func() error
	f     *os.File
}

func (r reader) Read(b []byte) (int, error) {
	if err := r.alive(); err != nil {
		return 0, err
	}
	return r.f.Read(b)
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}

// reopen opens the file that a handle is, and no other.
func reopen(handle *os.File, flags int) (*os.File, error) {
	return os.OpenFile(fdPath(int(handle.Fd())), flags|unix.O_CLOEXEC, 0)
}

// addXattrs keeps a file's capabilities.
func addXattrs(h *tar.Header, f *os.File) {
	value := make([]byte, 256)
	n, err := unix.Fgetxattr(int(f.Fd()), capabilityXattr, value)
	if err == nil && n > 0 {
		h.PAXRecords = map[string]string{paxXattr + capabilityXattr: string(value[:n])}
	}
}

func (p *packer) addDir(handle *os.File, name string, depth int) error {
	if depth > maxDepth {
		return fault.InvalidArgument("cannot copy %.60s…: directories nest deeper than %d", name, maxDepth)
	}
	dir, err := reopen(handle, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return fmt.Errorf("cannot read %s: %w", name, err)
	}
	defer dir.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(dir.Fd()), &st); err != nil {
		return err
	}
	if name != "" {
		if err := p.tar.WriteHeader(p.header(name, st)); err != nil {
			return err
		}
	}
	if depth > 0 && isKernels(dir) {
		return nil
	}
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return fmt.Errorf("cannot read %s: %w", name, err)
	}
	slices.Sort(names)
	for _, n := range names {
		if err := p.addChild(dir, name, n, depth); err != nil {
			return err
		}
	}
	return nil
}

func (p *packer) addChild(dir *os.File, parent, name string, depth int) error {
	child, err := openat(int(dir.Fd()), name, unix.O_PATH)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // it went meanwhile
	}
	if err != nil {
		return err
	}
	defer child.Close()
	switch parent {
	case "":
		return p.add(child, name, depth+1)
	case "/":
		return p.add(child, "/"+name, depth+1)
	}
	return p.add(child, parent+"/"+name, depth+1)
}

// isKernels says whether the directory is on one of kernelTypes.
func isKernels(dir *os.File) bool {
	var st unix.Statfs_t
	return unix.Fstatfs(int(dir.Fd()), &st) == nil && slices.Contains(kernelTypes, int64(st.Type))
}
