package passwd

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"

	pathrs "github.com/cyphar/filepath-securejoin/pathrs-lite"
	"golang.org/x/sys/unix"
)

// tree is a container's root file system. Its owner is the container's root.
type tree struct {
	root  *os.File
	owner unix.Stat_t
}

// mkdirAll returns a handle of a directory after it has made what is missing
// of it, for the container's root.
func (t tree) mkdirAll(dir string) (*os.File, error) {
	f, err := pathrs.OpenatInRoot(t.root, dir)
	if !errors.Is(err, fs.ErrNotExist) {
		return f, err
	}
	parent, err := t.mkdirAll(path.Dir(dir))
	if err != nil {
		return nil, err
	}
	defer parent.Close()
	fd, name := int(parent.Fd()), path.Base(dir)
	if err := unix.Mkdirat(fd, name, 0o755); err != nil {
		return nil, err
	}
	if err := unix.Fchmodat(fd, name, 0o755, 0); err != nil { // whatever the umask
		return nil, err
	}
	if err := unix.Fchownat(fd, name, int(t.owner.Uid), int(t.owner.Gid), unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return nil, err
	}
	return pathrs.OpenatInRoot(t.root, dir)
}

// ownDir makes a directory for this process's user. It returns false when
// there is something of somebody else.
func (t tree) ownDir(dir string) (bool, error) {
	parent, err := t.mkdirAll(path.Dir(dir))
	if err != nil {
		return false, err
	}
	defer parent.Close()
	err = unix.Mkdirat(int(parent.Fd()), path.Base(dir), 0o700)
	if !errors.Is(err, unix.EEXIST) {
		return err == nil, err
	}
	f, err := pathrs.OpenatInRoot(t.root, dir)
	if err != nil {
		return false, err
	}
	defer f.Close()
	var st unix.Stat_t
	err = unix.Fstat(int(f.Fd()), &st)
	return err == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR && st.Uid == uint32(os.Geteuid()), err
}

// addLine puts a file with one line more in the place of the one, or of the
// link, that is there.
func (t tree) addLine(name string, content []byte, line string) (err error) {
	dir, err := t.mkdirAll(path.Dir(name))
	if err != nil {
		return err
	}
	defer dir.Close()
	if len(content) > 0 && !bytes.HasSuffix(content, []byte("\n")) {
		content = append(content, '\n')
	}
	content = append(content, line...)
	at, base := int(dir.Fd()), path.Base(name)
	temporary := fmt.Sprintf(".%s.%s", base, rand.Text())
	fd, err := unix.Openat(at, temporary, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), temporary)
	_, err = f.Write(content)
	err = errors.Join(err, f.Chown(int(t.owner.Uid), int(t.owner.Gid)), f.Chmod(0o644), f.Sync(), f.Close())
	if err == nil {
		err = unix.Renameat(at, temporary, at, base)
	}
	if err != nil {
		_ = unix.Unlinkat(at, temporary, 0)
	}
	return err
}
