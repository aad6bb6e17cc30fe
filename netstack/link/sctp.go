package link

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// ErrNoSCTP is the error of whoever asks for SCTP of a kernel without it.
var ErrNoSCTP = errors.New("this kernel has no SCTP")

// sctpStreams bounds the streams of an association in each direction.
const sctpStreams = 64

// PrepareSCTP readies an SCTP socket, which does not listen and is not
// connected yet, for messages on many streams.
func PrepareSCTP(fd int) error {
	const initMsg, recvRcvInfo = 2, 32                               // socket options that package unix does not name
	streams := binary.NativeEndian.AppendUint16(nil, sctpStreams)    // outgoing ones
	streams = binary.NativeEndian.AppendUint16(streams, sctpStreams) // incoming ones
	err := unix.SetsockoptString(fd, unix.IPPROTO_SCTP, initMsg, string(append(streams, 0, 0, 0, 0)))
	if err == nil {
		err = unix.SetsockoptInt(fd, unix.IPPROTO_SCTP, recvRcvInfo, 1)
	}
	return os.NewSyscallError("setsockopt", err)
}

// SCTPError makes ErrNoSCTP of the error of a socket call.
func SCTPError(err error) error {
	if errors.Is(err, unix.EPROTONOSUPPORT) || errors.Is(err, unix.ESOCKTNOSUPPORT) {
		return ErrNoSCTP
	}
	return err
}

// DialSCTP connects from inside the namespace. Package net has no type for
// such a connection: Read and Write of this one lose what messages carry
// besides their bytes.
func (n *Namespace) DialSCTP(ctx context.Context, from Local, to netip.AddrPort) (*net.TCPConn, error) {
	c, err := n.connect(unix.SOCK_STREAM, unix.IPPROTO_SCTP, from, to)
	if err != nil {
		return nil, SCTPError(err)
	}
	conn := c.(*net.TCPConn)
	if err := awaitConnect(ctx, conn); err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}
