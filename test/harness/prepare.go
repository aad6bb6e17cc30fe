package harness

import (
	"path/filepath"
)

// Files is what tests need that run kelp as users of their own making.
type Files struct {
	// Base is a directory that everybody can read, Bin the one in it with
	// kelp and the docker client, Busybox the archive of a busybox image.
	Base, Bin, Busybox string
}

// Prepare makes the Files. They are to be removed in the end.
func Prepare() (Files, error) {
	base, err := makeBase()
	if err != nil {
		return Files{}, err
	}
	f := Files{Base: base, Bin: filepath.Join(base, "bin"), Busybox: filepath.Join(base, "busybox.tar")}
	err = prepare(base, nil)
	if err == nil {
		err = writeBusybox(f.Busybox)
	}
	if err != nil {
		removeAll(base)
	}
	return f, err
}

// Remove removes the Files, and all else in Base.
func (f Files) Remove() error { return removeAll(f.Base) }
