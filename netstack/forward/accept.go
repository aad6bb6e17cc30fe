package forward

import (
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// acceptPause is for an accept that failed, for instance for want of
// descriptors.
const acceptPause = 100 * time.Millisecond

// acceptor hands the connections of a listening socket to a function, on the
// thread of a pump that has time.
type acceptor struct {
	fd     int
	at     []*listening
	accept func(p *pump, fd int, from netip.AddrPort)
	log    *slog.Logger
}

// listening is an acceptor on one of the pumps. Only its thread uses it.
type listening struct {
	*acceptor
	pump   *pump
	slot   int32
	paused bool
	closed bool
}

// startAcceptor takes over a listener, which it closes also when it fails.
func startAcceptor(l *net.TCPListener, accept func(*pump, int, netip.AddrPort), log *slog.Logger) (*acceptor, error) {
	defer l.Close() // the acceptor has a copy
	all, err := pumps()
	if err != nil {
		return nil, err
	}
	a := &acceptor{accept: accept, log: log}
	if a.fd, err = duplicate(l); err != nil {
		return nil, err
	}
	errs := make([]error, len(all))
	for _, p := range all {
		a.at = append(a.at, &listening{acceptor: a, pump: p})
	}
	a.each(func(i int, l *listening) { errs[i] = l.listen() })
	if err := errors.Join(errs...); err != nil {
		a.close()
		return nil, err
	}
	return a, nil
}

// each runs f on the threads of all pumps.
func (a *acceptor) each(f func(i int, l *listening)) {
	var wg sync.WaitGroup
	for i, l := range a.at {
		wg.Add(1)
		l.pump.post(func() { defer wg.Done(); f(i, l) })
	}
	wg.Wait()
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
	a.each(func(_ int, l *listening) {
		l.closed = true
		l.pause()
	})
	unix.Close(a.fd)
}

// listen begins to hear of connections. One pump hears of each, of those that
// sleep; those that do not all look.
func (l *listening) listen() (err error) {
	l.slot, err = l.pump.add(l.fd, unix.EPOLLIN|unix.EPOLLEXCLUSIVE, l)
	l.paused = err != nil
	return err
}

func (l *listening) pause() {
	if !l.paused {
		l.paused = true
		l.pump.off(l.fd, l.slot)
	}
}

// ready implements source. It accepts one connection: the event comes again
// while there are more, which costs less than to find out that there are none.
func (l *listening) ready(uint32) {
	// Package unix would ask for the socket's protocol, too.
	fd, sa, err := syscall.Accept4(l.fd, unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
	switch err {
	case nil:
		l.accept(l.pump, fd, addrPort(sa))
	case unix.EAGAIN, unix.EINTR, unix.ECONNABORTED:
	default:
		l.log.Warn("cannot accept a connection", "error", err)
		l.pause()
		time.AfterFunc(acceptPause, func() { l.pump.post(l.resume) })
	}
}

func (l *listening) resume() {
	if l.closed {
		return
	}
	if err := l.listen(); err != nil {
		l.log.Warn("cannot listen for connections", "error", err)
		time.AfterFunc(acceptPause, func() { l.pump.post(l.resume) })
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
