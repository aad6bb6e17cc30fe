package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// socket is a blocking socket. Its thread may block in it without a word to
// Go's scheduler, see main.
type socket int

// raw makes a system call, as often as it is interrupted.
func raw(name string, trap uintptr, args ...uintptr) (int, error) {
	var a [4]uintptr
	copy(a[:], args)
	for {
		n, _, errno := unix.RawSyscall6(trap, a[0], a[1], a[2], a[3], 0, 0)
		switch errno {
		case 0:
			return int(n), nil
		case unix.EINTR:
		default:
			return -1, os.NewSyscallError(name, errno)
		}
	}
}

func open(kind int) (socket, error) {
	fd, err := raw("socket", unix.SYS_SOCKET, unix.AF_INET, uintptr(kind|unix.SOCK_CLOEXEC), 0)
	return socket(fd), err
}

func dial(kind int, to netip.AddrPort) (socket, error) {
	s, err := open(kind)
	if err != nil {
		return s, err
	}
	sa := unix.RawSockaddrInet4{Family: unix.AF_INET, Addr: to.Addr().As4()}
	binary.BigEndian.PutUint16((*[2]byte)(unsafe.Pointer(&sa.Port))[:], to.Port())
	if _, err = raw("connect", unix.SYS_CONNECT, uintptr(s), uintptr(unsafe.Pointer(&sa)), unsafe.Sizeof(sa)); err != nil {
		s.Close()
		return s, fmt.Errorf("%s: %w", to, err)
	}
	return s, nil
}

func bound(kind int, port uint16) (socket, error) {
	s, err := open(kind)
	if err != nil {
		return s, err
	}
	_ = unix.SetsockoptInt(int(s), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	if err := unix.Bind(int(s), &unix.SockaddrInet4{Port: int(port)}); err != nil {
		return s, fmt.Errorf("bind %d: %w", port, err)
	}
	return s, nil
}

func listen(port uint16) (socket, error) {
	s, err := bound(unix.SOCK_STREAM, port)
	if err != nil {
		return s, err
	}
	return s, os.NewSyscallError("listen", unix.Listen(int(s), 4096))
}

func (s socket) accept() (socket, error) {
	for {
		fd, err := raw("accept", unix.SYS_ACCEPT4, uintptr(s), 0, 0, unix.SOCK_CLOEXEC)
		if !errors.Is(err, unix.ECONNABORTED) {
			return socket(fd), err
		}
	}
}

// Read implements io.Reader.
func (s socket) Read(p []byte) (int, error) {
	n, err := raw("read", unix.SYS_READ, uintptr(s), uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)))
	if n == 0 {
		return 0, io.EOF
	}
	return max(n, 0), err
}

// Write implements io.Writer.
func (s socket) Write(p []byte) (int, error) {
	for done := 0; done < len(p); {
		n, err := raw("write", unix.SYS_WRITE, uintptr(s), uintptr(unsafe.Pointer(&p[done])), uintptr(len(p)-done))
		if err != nil {
			return done, err
		}
		done += n
	}
	return len(p), nil
}

// Close implements io.Closer.
func (s socket) Close() error {
	_, err := raw("close", unix.SYS_CLOSE, uintptr(s))
	return err
}

func (s socket) endWrites() { _ = unix.Shutdown(int(s), unix.SHUT_WR) }

func (s socket) noDelay() { _ = unix.SetsockoptInt(int(s), unix.IPPROTO_TCP, unix.TCP_NODELAY, 1) }

func (s socket) writeNumber(n uint64) error {
	_, err := s.Write(binary.BigEndian.AppendUint64(nil, n))
	return err
}

func (s socket) readNumber() (uint64, error) {
	var b [8]byte
	_, err := io.ReadFull(s, b[:])
	return binary.BigEndian.Uint64(b[:]), err
}

func address(sa unix.Sockaddr) netip.AddrPort {
	a, ok := sa.(*unix.SockaddrInet4)
	if !ok {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port))
}
