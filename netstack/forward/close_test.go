package forward

import (
	"testing"

	"golang.org/x/sys/unix"
)

// A network closes while much is left to read that the stack itself has to
// answer.
func TestCloseWithMuchUnread(t *testing.T) {
	for range 3 {
		t.Run("", func(t *testing.T) {
			n := newNetwork(t, EgressConfig{})
			fd, err := n.container.Socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_TCP)
			check(t, err)
			segment := make([]byte, 20)
			segment[1], segment[3], segment[12], segment[13] = 1, 1, 5<<4, 0x10 // an ACK of nothing
			defer unix.Close(fd)
			for range 20000 {
				_ = unix.Sendto(fd, segment, unix.MSG_DONTWAIT, &unix.SockaddrInet4{Addr: [4]byte{198, 51, 100, 9}})
			}
		})
	}
}
