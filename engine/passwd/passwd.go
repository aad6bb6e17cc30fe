// Package passwd reads and extends the account files of a container's root
// file system: /etc/passwd and /etc/group. The file system may be hostile;
// links are followed inside it only.
//
// It must not know containers, nor who the user of kelp is.
package passwd

import (
	"errors"
	"fmt"
	"io"
	"io/fs"

	pathrs "github.com/cyphar/filepath-securejoin/pathrs-lite"
	"golang.org/x/sys/unix"

	"github.com/kelp-engine/kelp/engine/fault"
)

// The account files.
const (
	Users  = "/etc/passwd"
	Groups = "/etc/group"
)

// maxSize bounds what is read of an account file, in bytes.
const maxSize = 4 << 20

// Read returns the content of an account file, nil when there is none.
// Nothing but a regular file is read.
func Read(root, name string) ([]byte, error) {
	handle, err := pathrs.OpenInRoot(root, name)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot open %s of the container: %w", name, err)
	}
	defer handle.Close()
	info, err := handle.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fault.InvalidArgument("cannot look up users: %s of the container is no regular file", name)
	}
	f, err := pathrs.Reopen(handle, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("cannot read %s of the container: %w", name, err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxSize+1))
	if err != nil {
		return nil, fmt.Errorf("cannot read %s of the container: %w", name, err)
	}
	if len(b) > maxSize {
		return nil, fault.InvalidArgument("cannot look up users: %s of the container is larger than %d bytes", name, maxSize)
	}
	return b, nil
}
