package main

import (
	"encoding/binary"
	"fmt"
	"io"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// socket is a blocking socket.
type socket int

func open(kind int) (socket, error) {
	fd, err := unix.Socket(unix.AF_INET, kind|unix.SOCK_CLOEXEC, 0)
	return socket(fd), os.NewSyscallError("socket", err)
}

func dial(kind int, to netip.AddrPort) (socket, error) {
	s, err := open(kind)
	if err != nil {
		return s, err
	}
	err = unix.Connect(int(s), &unix.SockaddrInet4{Addr: to.Addr().As4(), Port: int(to.Port())})
	if err != nil {
		s.Close()
		return s, fmt.Errorf("connect to %s: %w", to, err)
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
		fd, _, err := unix.Accept4(int(s), unix.SOCK_CLOEXEC)
		if err != unix.EINTR && err != unix.ECONNABORTED {
			return socket(fd), os.NewSyscallError("accept", err)
		}
	}
}

// Read implements io.Reader.
func (s socket) Read(p []byte) (int, error) {
	for {
		n, err := unix.Read(int(s), p)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return 0, os.NewSyscallError("read", err)
		case n == 0:
			return 0, io.EOF
		default:
			return n, nil
		}
	}
}

// Write implements io.Writer.
func (s socket) Write(p []byte) (int, error) {
	for done := 0; done < len(p); {
		n, err := unix.Write(int(s), p[done:])
		if err != nil && err != unix.EINTR {
			return done, os.NewSyscallError("write", err)
		}
		done += max(n, 0)
	}
	return len(p), nil
}

// Close implements io.Closer.
func (s socket) Close() error { return unix.Close(int(s)) }

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
