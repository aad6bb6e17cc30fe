package enter

import (
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
)

// Limit takes all capabilities but some from the programs that the calling
// thread executes, even where they are root.
//
// Preconditions: as of Cover.
func Limit(keep ...uintptr) error {
	for c := uintptr(0); ; c++ {
		if slices.Contains(keep, c) {
			continue
		}
		err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0)
		if err == unix.EINVAL { // there are no more
			return nil
		}
		if err != nil {
			return fmt.Errorf("cannot drop capability %d: %w", c, err)
		}
	}
}
