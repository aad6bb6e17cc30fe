package layer

import (
	"fmt"

	"github.com/docker/go-units"
	"golang.org/x/sys/unix"

	"github.com/kelp-engine/kelp/engine/fault"
	"github.com/kelp-engine/kelp/userns/reserve"
)

// spaceCheck refuses to fill the file system of dir: it asks before a large
// file and every so often.
type spaceCheck struct {
	dir     string
	reserve int64
	credit  int64 // bytes that may be written before the next look
}

// want announces that size more bytes are to be written.
func (s *spaceCheck) want(size int64) error {
	if size <= s.credit {
		s.credit -= size
		return nil
	}
	var st unix.Statfs_t
	if err := unix.Statfs(s.dir, &st); err != nil {
		return err
	}
	if st.Blocks == 0 { // a file system that does not count them, such as ramfs
		return nil
	}
	free := int64(st.Bavail)*st.Bsize - s.reserve
	if size > free {
		return noSpace(s.dir, fmt.Sprintf("%s needed, %s free", units.BytesSize(float64(size)), units.BytesSize(float64(max(free, 0)))))
	}
	s.credit = (free - size) / 4
	return nil
}

// SpaceError says in words that the disk is full.
func SpaceError(dir string, err error) error {
	if reserve.IsFull(err) {
		return noSpace(dir, err.Error())
	}
	return err
}

func noSpace(dir, detail string) error {
	return fault.Unavailable("not enough space in %s (%s): %w", dir, detail, unix.ENOSPC).
		WithHint("remove what is unused with 'docker system prune', or choose another --data-root")
}
