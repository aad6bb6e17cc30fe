package link

import (
	"encoding/binary"
	"os"

	"golang.org/x/sys/unix"
)

// Watch calls look after something that a bridge needs was removed, taken down
// or taken off it, until stop is called. It costs one socket.
func (b *Bridge) Watch(look func()) (stop func(), err error) {
	fd, err := b.Socket(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, err
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: unix.RTMGRP_LINK}); err != nil {
		unix.Close(fd)
		return nil, os.NewSyscallError("bind", err)
	}
	socket := os.NewFile(uintptr(fd), "devices")
	done := make(chan struct{})
	go func() {
		defer close(done)
		watch{b}.read(socket, look)
	}()
	return func() {
		socket.Close()
		<-done
	}, nil
}

// watch reads what the kernel tells of a bridge's devices.
type watch struct{ *Bridge }

func (b watch) read(socket *os.File, look func()) {
	raw, err := socket.SyscallConn()
	if err != nil {
		return
	}
	buf := make([]byte, 16<<10)
	notable := false
	read := func(fd uintptr) bool {
		n, err := unix.Read(int(fd), buf)
		switch err {
		case nil:
			notable = b.notable(buf[:n])
		case unix.EAGAIN:
			return false
		default: // ENOBUFS: something was missed
			notable = true
		}
		return true
	}
	for raw.Read(read) == nil {
		if notable {
			look()
		}
	}
}

// The parts of a message about a device: struct nlmsghdr, struct ifinfomsg.
const (
	messageHeader = 16
	messageType   = 4
	deviceFamily  = 16
	deviceIndexAt = 20
	deviceFlags   = 24
	deviceHeader  = 32
)

// notable says whether one of the messages is about damage.
func (b watch) notable(messages []byte) bool {
	native := binary.NativeEndian
	b.mu.Lock()
	defer b.mu.Unlock()
	for len(messages) >= deviceHeader {
		size := int(native.Uint32(messages))
		if size < deviceHeader || size > len(messages) {
			break
		}
		flags := native.Uint32(messages[deviceFlags:])
		index := int(native.Uint32(messages[deviceIndexAt:]))
		switch native.Uint16(messages[messageType:]) {
		case unix.RTM_DELLINK: // of AF_BRIDGE: the port is off its bridge
			if b.needs(index) {
				return true
			}
		case unix.RTM_NEWLINK:
			down := flags&unix.IFF_UP == 0 || index == b.uplinkIndex && flags&unix.IFF_LOWER_UP == 0
			if messages[deviceFamily] == unix.AF_UNSPEC && down && b.needs(index) {
				return true
			}
		}
		messages = messages[min((size+3)&^3, len(messages)):]
	}
	return false
}

// needs says whether the bridge does not work without a device.
//
// Preconditions: b.mu is held.
func (b watch) needs(index int) bool {
	if index == b.index || index == b.uplinkIndex {
		return true
	}
	for _, port := range b.ports {
		if port == index {
			return true
		}
	}
	return false
}
