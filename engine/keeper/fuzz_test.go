package keeper

import (
	"encoding/binary"
	"encoding/json"
	"net"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// FuzzReadMessage reads whatever comes over the keeper's socket, with and
// without files.
func FuzzReadMessage(f *testing.F) {
	whole, err := json.Marshal(Request{Version: Version, Op: "hello", Files: 1})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(append(binary.BigEndian.AppendUint32(nil, uint32(len(whole))), whole...), true)
	f.Add([]byte{0, 0, 0, 2, '{', '}'}, false)
	f.Add([]byte{0xff, 0xff, 0xff, 0xff}, false)
	f.Add([]byte{0, 0}, true)
	f.Add([]byte{}, false)
	f.Fuzz(func(t *testing.T, b []byte, withFile bool) {
		if len(b) > 64<<10 {
			return // more than the socket takes at once
		}
		from, to := pair(t)
		defer to.Close()
		var rights []byte
		if withFile {
			rights = unix.UnixRights(0)
		}
		_, _, err := from.WriteMsgUnix(b, rights, nil)
		from.Close()
		if err != nil {
			return
		}
		var r Request
		files, err := ReadMessage(to, &r)
		for _, f := range files {
			f.Close()
		}
		if err == nil && len(b) < 6 {
			t.Errorf("%q is a message", b)
		}
	})
}

func pair(t *testing.T) (a, b *net.UnixConn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var conns []*net.UnixConn
	for _, fd := range fds {
		f := os.NewFile(uintptr(fd), "pair")
		c, err := net.FileConn(f)
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c.(*net.UnixConn))
	}
	return conns[0], conns[1]
}
