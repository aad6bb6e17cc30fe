package forward

import (
	"log/slog"
	"net"
	"net/netip"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// acceptBatch is how many connections are accepted before others have
	// their turn.
	acceptBatch = 16
	// acceptPause is for an accept that failed, for instance for want of
	// descriptors.
	acceptPause = 100 * time.Millisecond
)

// acceptor hands the connections of a listening socket to a function, on a
// pump's thread.
type acceptor struct {
	pump   *pump
	fd     int
	slot   int32
	closed bool
	accept func(p *pump, fd int, from netip.AddrPort)
	log    *slog.Logger
}

// startAcceptor takes over a listener, which it closes also when it fails.
func startAcceptor(l *net.TCPListener, accept func(*pump, int, netip.AddrPort), log *slog.Logger) (*acceptor, error) {
	defer l.Close() // the acceptor has a copy
	all, err := pumps()
	if err != nil {
		return nil, err
	}
	a := &acceptor{pump: quietest(all, nil), accept: accept, log: log}
	if a.fd, err = duplicate(l); err != nil {
		return nil, err
	}
	a.pump.call(func() { a.slot, err = a.pump.add(a.fd, unix.EPOLLIN, a) })
	if err != nil {
		unix.Close(a.fd)
		return nil, err
	}
	return a, nil
}

// duplicate returns a copy of the listener's descriptor.
func duplicate(l *net.TCPListener) (fd int, err error) {
	raw, err := l.SyscallConn()
	if err != nil {
		return -1, err
	}
	ctl := raw.Control(func(own uintptr) { fd, err = unix.FcntlInt(own, unix.F_DUPFD_CLOEXEC, 0) })
	if ctl != nil {
		return -1, ctl
	}
	return fd, err
}

// close returns when the port is free again and accept is not called any more.
func (a *acceptor) close() {
	a.pump.call(func() {
		if a.closed {
			return
		}
		a.closed = true
		a.pump.drop(a.slot)
		unix.Close(a.fd)
	})
}

// ready implements source.
func (a *acceptor) ready(uint32) {
	for range acceptBatch { // the event comes again while there are more
		// Package unix would ask for the socket's protocol, too.
		fd, sa, err := syscall.Accept4(a.fd, unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
		switch err {
		case nil:
			a.accept(a.pump, fd, addrPort(sa))
		case unix.EAGAIN:
			return
		case unix.EINTR, unix.ECONNABORTED:
		default:
			a.log.Warn("cannot accept a connection", "error", err)
			a.listenFor(0)
			time.AfterFunc(acceptPause, func() { a.pump.post(func() { a.listenFor(unix.EPOLLIN) }) })
			return
		}
	}
}

func (a *acceptor) listenFor(events uint32) {
	if !a.closed {
		e := unix.EpollEvent{Events: events, Fd: a.slot, Pad: a.pump.slots[a.slot].use}
		_ = unix.EpollCtl(a.pump.epoll, unix.EPOLL_CTL_MOD, a.fd, &e)
	}
}

// addrPort reads a socket's address; an IPv4 one is never mapped.
func addrPort(sa syscall.Sockaddr) netip.AddrPort {
	switch sa := sa.(type) {
	case *syscall.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *syscall.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr).Unmap(), uint16(sa.Port))
	}
	return netip.AddrPort{}
}

func localAddr(fd int) netip.AddrPort {
	sa, err := syscall.Getsockname(fd)
	if err != nil {
		return netip.AddrPort{}
	}
	return addrPort(sa)
}

// unmapped is a without IPv4 in the guise of IPv6.
func unmapped(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}
