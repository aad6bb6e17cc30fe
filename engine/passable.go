package engine

import (
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/kelp-engine/kelp/engine/fault"
)

// overflowID is whom files seem to belong to that belong to nobody in the user
// namespace.
const overflowID = 65534

// passable refuses a directory that root of a user namespace further down
// cannot get to: he may pass what everybody may, and what belongs to ids that
// he knows.
func passable(dir string) error {
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return err
	}
	for ; ; dir = filepath.Dir(dir) {
		var st unix.Stat_t
		if err := unix.Stat(dir, &st); err != nil {
			return err
		}
		if st.Mode&unix.S_IXOTH == 0 && (st.Uid == overflowID || st.Gid == overflowID) {
			return fault.Conflict("a container with the userns mode keep-id cannot get to its files: its root may not enter %s, which is not wholly yours", dir).
				WithHint("give it to your own group with chgrp, let everybody pass with 'chmod o+x', or choose another --data-root")
		}
		if dir == "/" {
			return nil
		}
	}
}
