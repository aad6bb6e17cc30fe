package forward

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"unsafe"

	"github.com/kelp-engine/kelp/netstack/link"
	"golang.org/x/sys/unix"
)

// listenSCTP listens on the host. Package net has no type for SCTP; its TCP
// listener accepts any connection.
func listenSCTP(host netip.AddrPort) (*net.TCPListener, error) {
	domain := unix.AF_INET6
	var to unix.Sockaddr = &unix.SockaddrInet6{Addr: host.Addr().As16(), Port: int(host.Port())}
	if host.Addr().Is4() {
		domain, to = unix.AF_INET, &unix.SockaddrInet4{Addr: host.Addr().As4(), Port: int(host.Port())}
	}
	fd, err := unix.Socket(domain, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.IPPROTO_SCTP)
	if err != nil {
		return nil, link.SCTPError(os.NewSyscallError("socket", err))
	}
	f := os.NewFile(uintptr(fd), "sctp")
	defer f.Close() // FileListener keeps a copy
	if domain == unix.AF_INET6 {
		if err := unix.SetsockoptInt(fd, unix.SOL_IPV6, unix.IPV6_V6ONLY, 1); err != nil {
			return nil, os.NewSyscallError("setsockopt IPV6_V6ONLY", err)
		}
	}
	if err := link.PrepareSCTP(fd); err != nil {
		return nil, err
	}
	if err := unix.Bind(fd, to); err != nil {
		return nil, os.NewSyscallError("bind", err)
	}
	if err := unix.Listen(fd, unix.SOMAXCONN); err != nil {
		return nil, os.NewSyscallError("listen", err)
	}
	l, err := net.FileListener(f)
	if err != nil {
		return nil, err
	}
	return l.(*net.TCPListener), nil
}

// messages reads and writes the messages of an SCTP socket.
type messages struct{ raw syscall.RawConn }

func newMessages(c *net.TCPConn) (messages, error) {
	raw, err := c.SyscallConn()
	return messages{raw}, err
}

func (m messages) prepare() error {
	var err error
	ctl := m.raw.Control(func(fd uintptr) { err = link.PrepareSCTP(int(fd)) })
	return errors.Join(ctl, err)
}

// maxMessage bounds a message, in bytes.
const maxMessage = 1 << 20

var messageBuffers = sync.Pool{New: func() any { return new([maxMessage]byte) }}

// copyMessages carries messages, each on its stream and with its protocol
// identifier, until from ends.
func copyMessages(to, from messages) error {
	buf := messageBuffers.Get().(*[maxMessage]byte)
	defer messageBuffers.Put(buf)
	for {
		n, info, err := from.receive(buf[:])
		if err != nil || n == 0 {
			return err
		}
		if err := to.send(buf[:n], info); err != nil {
			return err
		}
	}
}

// receive reads one whole message, and what is to be sent with it; nothing is
// the end.
func (m messages) receive(buf []byte) (n int, info []byte, err error) {
	var oob [128]byte
	wait := m.raw.Read(func(fd uintptr) bool {
		for n < len(buf) {
			got, oobn, flags, _, e := unix.Recvmsg(int(fd), buf[n:], oob[:], 0)
			switch {
			case e == unix.EINTR:
				continue
			case e == unix.EAGAIN:
				return false
			case e != nil || got == 0:
				err = os.NewSyscallError("recvmsg", e)
				return true
			}
			n += got
			if flags&unix.MSG_EOR != 0 {
				info = sendInfo(oob[:oobn])
				return true
			}
		}
		err = unix.EMSGSIZE
		return true
	})
	return n, info, errors.Join(wait, err)
}

func (m messages) send(b, info []byte) (err error) {
	wait := m.raw.Write(func(fd uintptr) bool {
		for {
			if err = unix.Sendmsg(int(fd), b, info, nil, unix.MSG_NOSIGNAL); err != unix.EINTR {
				return err != unix.EAGAIN
			}
		}
	})
	return errors.Join(wait, os.NewSyscallError("sendmsg", err))
}

// sendInfo makes of the control message that a message came with (struct
// sctp_rcvinfo) the one that it leaves with (struct sctp_sndinfo).
func sendInfo(oob []byte) []byte {
	const sndInfo, rcvInfo, unordered, size = 2, 3, 1, 16
	all, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil
	}
	for _, m := range all {
		if m.Header.Level != unix.IPPROTO_SCTP || m.Header.Type != rcvInfo || len(m.Data) < 12 {
			continue
		}
		out := make([]byte, unix.CmsgSpace(size))
		h := (*unix.Cmsghdr)(unsafe.Pointer(&out[0]))
		h.Level, h.Type = unix.IPPROTO_SCTP, sndInfo
		h.SetLen(unix.CmsgLen(size))
		body := out[unix.CmsgLen(0):]
		copy(body, m.Data[:2]) // the stream
		binary.NativeEndian.PutUint16(body[2:], binary.NativeEndian.Uint16(m.Data[4:])&unordered)
		copy(body[4:], m.Data[8:12]) // the protocol identifier
		return out
	}
	return nil
}
