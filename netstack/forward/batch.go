package forward

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// maxDatagram is the longest UDP datagram there is.
	maxDatagram = 65535
	// batchSize is how many datagrams cross in one go.
	batchSize = 32
	// maxSegments and maxSegmented bound what the kernel cuts itself (UDP_SEGMENT).
	maxSegments  = 32
	maxSegmented = 65000
)

// mmsghdr is the kernel's struct mmsghdr.
type mmsghdr struct {
	hdr unix.Msghdr
	len uint32
	_   [4]byte
}

// sockName is an address as the kernel writes it, of either family.
type sockName unix.RawSockaddrInet6

// nameOf returns nil for the zero AddrPort.
func nameOf(a netip.AddrPort) *sockName {
	if !a.IsValid() {
		return nil
	}
	n := new(sockName)
	port := (*[2]byte)(unsafe.Pointer(&n.Port))
	binary.BigEndian.PutUint16(port[:], a.Port())
	if a.Addr().Is6() {
		n.Family, n.Addr = unix.AF_INET6, a.Addr().As16()
		return n
	}
	n.Family = unix.AF_INET
	(*unix.RawSockaddrInet4)(unsafe.Pointer(n)).Addr = a.Addr().As4()
	return n
}

func (n *sockName) addrPort() netip.AddrPort {
	port := binary.BigEndian.Uint16((*[2]byte)(unsafe.Pointer(&n.Port))[:])
	switch n.Family {
	case unix.AF_INET:
		return netip.AddrPortFrom(netip.AddrFrom4((*unix.RawSockaddrInet4)(unsafe.Pointer(n)).Addr), port)
	case unix.AF_INET6:
		return netip.AddrPortFrom(netip.AddrFrom16(n.Addr), port)
	}
	return netip.AddrPort{}
}

func (n *sockName) len() uint32 {
	if n.Family == unix.AF_INET6 {
		return unix.SizeofSockaddrInet6
	}
	return unix.SizeofSockaddrInet4
}

// batch is some datagrams on their way from one socket to another. It is
// large, but only the pages that datagrams reach are ever backed by memory,
// and only flows with traffic hold one.
type batch struct {
	n       int
	headers [batchSize]mmsghdr
	names   [batchSize]sockName // where each came from
	infos   [batchSize][infoControl]byte
	vectors [batchSize]unix.Iovec
	buffers [batchSize][maxDatagram]byte

	// What is left to send: messages of one datagram, or of many of one size.
	out      [batchSize]mmsghdr
	controls [batchSize][infoControl + segmentControl]byte
	firsts   [batchSize]int // the first datagram of each message
	messages int
	sent     int
}

// segmentControl is the size of the control message that tells the kernel the
// size of segments.
const segmentControl = unix.SizeofCmsghdr + 8

// infoControl is the size of the control message that tells a datagram's
// local address, of either family.
const infoControl = unix.SizeofCmsghdr + 24

var batches = sync.Pool{New: func() any { return new(batch) }}

// receive fills the batch with what the socket holds.
func (b *batch) receive(fd int) error {
	for i := range b.headers {
		b.vectors[i] = unix.Iovec{Base: &b.buffers[i][0], Len: maxDatagram}
		b.headers[i] = mmsghdr{hdr: unix.Msghdr{
			Name: (*byte)(unsafe.Pointer(&b.names[i])), Namelen: uint32(unsafe.Sizeof(b.names[i])), Iov: &b.vectors[i], Iovlen: 1,
			Control: &b.infos[i][0], Controllen: infoControl,
		}}
	}
	for {
		n, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, uintptr(fd), uintptr(unsafe.Pointer(&b.headers[0])), batchSize, unix.MSG_DONTWAIT, 0, 0)
		switch errno {
		case 0:
			b.n = int(n)
			for i := range b.n {
				b.vectors[i].Len = uint64(b.headers[i].len)
			}
			return nil
		case unix.EINTR:
		default:
			return errno
		}
	}
}

// datagram returns one that was received.
func (b *batch) datagram(i int) []byte { return b.buffers[i][:b.vectors[i].Len] }

// info is the control message of a datagram, if its socket asked for one.
func (b *batch) info(i int) []byte { return b.infos[i][:b.headers[i].hdr.Controllen] }

// fromOne is the end of the datagrams from first on that came from the same
// address, which it returns, to the same address.
func (b *batch) fromOne(first int) (from netip.AddrPort, end int) {
	end = first + 1
	for end < b.n && b.names[end] == b.names[first] && bytes.Equal(b.info(end), b.info(first)) {
		end++
	}
	return b.names[first].addrPort(), end
}

// arrange lays out the datagrams from first to before end for send; with
// segmented, runs of datagrams of one size become one message that the kernel
// cuts again. to is nil for a connected socket; source may be a control message
// that says which of the socket's addresses they come from.
func (b *batch) arrange(first, end int, segmented bool, to *sockName, source []byte) {
	b.messages, b.sent = 0, 0
	for i := first; i < end; {
		run := 1
		if segmented {
			run = b.run(i, end)
		}
		m := &b.out[b.messages]
		*m = mmsghdr{hdr: unix.Msghdr{Iov: &b.vectors[i], Iovlen: uint64(run)}}
		if to != nil {
			m.hdr.Name, m.hdr.Namelen = (*byte)(unsafe.Pointer(to)), to.len()
		}
		control := append(b.controls[b.messages][:0], source...)
		if run > 1 {
			h := unix.Cmsghdr{Level: unix.SOL_UDP, Type: unix.UDP_SEGMENT}
			h.SetLen(unix.CmsgLen(2))
			control = append(control, (*[unix.SizeofCmsghdr]byte)(unsafe.Pointer(&h))[:]...)
			control = binary.NativeEndian.AppendUint64(control, 0)
			binary.NativeEndian.PutUint16(control[len(control)-8:], uint16(b.vectors[i].Len))
		}
		if len(control) > 0 {
			m.hdr.Control = &control[0]
			m.hdr.SetControllen(len(control))
		}
		b.firsts[b.messages] = i
		b.messages++
		i += run
	}
}

// run is how many datagrams from i on, before end, make one segmented message:
// all of the first one's size, but for a shorter last one.
func (b *batch) run(i, end int) int {
	size := b.vectors[i].Len
	if size == 0 {
		return 1
	}
	total, n := size, 1
	for i+n < end && n < maxSegments {
		next := b.vectors[i+n].Len
		if next == 0 || next > size || total+next > maxSegmented {
			break
		}
		total += next
		n++
		if next < size {
			break
		}
	}
	return n
}

// send sends what is arranged and not sent yet.
func (b *batch) send(fd int) error {
	for b.sent < b.messages {
		n, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(fd), uintptr(unsafe.Pointer(&b.out[b.sent])), uintptr(b.messages-b.sent), unix.MSG_DONTWAIT, 0, 0)
		switch errno {
		case 0:
			b.sent += int(n)
		case unix.EINTR:
		default:
			return errno
		}
	}
	return nil
}

// datagramSender puts received datagrams on a socket. It is not for several
// goroutines at once.
type datagramSender struct {
	out syscall.RawConn
	to  *sockName // nil where the socket is connected
	// source is the control message of what is sent, if any.
	source []byte
	// segment is cleared when the way out cannot cut messages itself.
	segment bool

	// Of the send under way.
	b     *batch
	end   int
	err   error
	drain func(fd uintptr) bool // made once: method values allocate
}

func newDatagramSender(c *net.UDPConn, to netip.AddrPort, source []byte) (*datagramSender, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	s := &datagramSender{out: raw, to: nameOf(to), source: source, segment: true}
	s.drain = s.drainTo
	return s, nil
}

// send sends the datagrams from first to before end. refused is what the
// socket said of the last one that could not be sent; closed ends it all.
func (s *datagramSender) send(b *batch, first, end int) (refused, closed error) {
	b.arrange(first, end, s.segment, s.to, s.source)
	s.b, s.end, s.err = b, end, nil
	closed = s.out.Write(s.drain)
	s.b = nil
	return s.err, closed
}

// drainTo sends what is arranged. A datagram that cannot be sent is lost, as on
// any network.
func (s *datagramSender) drainTo(fd uintptr) bool {
	b, again := s.b, false
	for {
		switch err := b.send(int(fd)); {
		case err == nil:
			return true
		case err == unix.EAGAIN:
			return false
		case b.out[b.sent].hdr.Iovlen > 1 && (err == unix.EIO || err == unix.EINVAL || err == unix.EMSGSIZE):
			s.segment = false
			b.arrange(b.firsts[b.sent], s.end, false, s.to, s.source)
		case !again:
			again = true // the error may be of an earlier datagram
		default:
			again = false
			s.err = os.NewSyscallError("sendmmsg", err)
			b.sent++
		}
	}
}

// receiveBatches hands what c receives to handle until that returns an error or
// c is closed. idle, which may be nil, is called when nothing is left to
// receive; errors of the socket are dropped before it.
func receiveBatches(c *net.UDPConn, handle func(*batch) error, idle func(fd int)) {
	raw, err := c.SyscallConn()
	if err != nil {
		return
	}
	var b *batch
	fill := func(fd uintptr) bool {
		b = batches.Get().(*batch)
		err := b.receive(int(fd))
		if err == nil {
			return true
		}
		batches.Put(b)
		b = nil
		if idle != nil {
			idle(int(fd))
		}
		return err != unix.EAGAIN
	}
	for raw.Read(fill) == nil {
		if b == nil {
			continue
		}
		err := handle(b)
		batches.Put(b)
		if err != nil {
			return
		}
	}
}
