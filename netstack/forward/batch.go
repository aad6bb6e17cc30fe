package forward

import (
	"encoding/binary"
	"net"
	"os"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
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

// batch is some datagrams on their way from one socket to another. It is
// large, but only the pages that datagrams reach are ever backed by memory,
// and only flows with traffic hold one.
type batch struct {
	n       int
	headers [batchSize]mmsghdr
	vectors [batchSize]unix.Iovec
	buffers [batchSize][maxDatagram]byte

	// What is left to send: messages of one datagram, or of many of one size.
	out      [batchSize]mmsghdr
	controls [batchSize][segmentControl]byte
	messages int
	sent     int
}

// segmentControl is the size of the control message that tells the kernel the
// size of segments.
const segmentControl = unix.SizeofCmsghdr + 8

var batches = sync.Pool{New: func() any { return new(batch) }}

// receive fills the batch with what the socket holds.
func (b *batch) receive(fd int) error {
	for i := range b.headers {
		b.vectors[i] = unix.Iovec{Base: &b.buffers[i][0], Len: maxDatagram}
		b.headers[i] = mmsghdr{hdr: unix.Msghdr{Iov: &b.vectors[i], Iovlen: 1}}
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

// arrange lays out the datagrams for send; with segmented, runs of datagrams
// of one size become one message that the kernel cuts again.
func (b *batch) arrange(segmented bool) {
	b.messages, b.sent = 0, 0
	for i := 0; i < b.n; {
		run := 1
		if segmented {
			run = b.run(i)
		}
		m := &b.out[b.messages]
		*m = mmsghdr{hdr: unix.Msghdr{Iov: &b.vectors[i], Iovlen: uint64(run)}}
		if run > 1 {
			c := &b.controls[b.messages]
			h := (*unix.Cmsghdr)(unsafe.Pointer(&c[0]))
			h.Level, h.Type = unix.SOL_UDP, unix.UDP_SEGMENT
			h.SetLen(unix.CmsgLen(2))
			binary.NativeEndian.PutUint16(c[unix.SizeofCmsghdr:], uint16(b.vectors[i].Len))
			m.hdr.Control = &c[0]
			m.hdr.SetControllen(len(c))
		}
		b.messages++
		i += run
	}
}

// run is how many datagrams from i on make one segmented message: all of the
// first one's size, but for a shorter last one.
func (b *batch) run(i int) int {
	size := b.vectors[i].Len
	if size == 0 {
		return 1
	}
	total, n := size, 1
	for i+n < b.n && n < maxSegments {
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

// datagramPump carries datagrams from one connected socket to another.
type datagramPump struct {
	b *batch
	// segment is cleared when the way out cannot cut messages itself.
	segment bool
	err     error // of receiving
	sendErr error
}

// relayDatagrams carries datagrams from src to dst until one of them is
// closed. passed is called for each batch; srcFailed and dstFailed, either of
// which may be nil, hear what the sockets report of their remote ends.
func relayDatagrams(dst, src *net.UDPConn, passed func(), dstFailed, srcFailed func(error)) {
	in, err := src.SyscallConn()
	if err != nil {
		return
	}
	out, err := dst.SyscallConn()
	if err != nil {
		return
	}
	p := datagramPump{segment: true}
	fill, drain := p.fill, p.drain // made once: method values allocate
	for {
		if in.Read(fill) != nil {
			return
		}
		if p.err != nil {
			tell(srcFailed, p.err)
			continue
		}
		passed()
		err := out.Write(drain)
		batches.Put(p.b)
		p.b = nil
		if err != nil {
			return
		}
		if p.sendErr != nil {
			tell(dstFailed, p.sendErr)
		}
	}
}

func tell(hear func(error), err error) {
	if hear != nil {
		hear(err)
	}
}

func (p *datagramPump) fill(fd uintptr) bool {
	p.b = batches.Get().(*batch)
	p.err = nil
	err := p.b.receive(int(fd))
	if err == nil {
		p.b.arrange(p.segment)
		p.sendErr = nil
		return true
	}
	batches.Put(p.b)
	p.b = nil
	if err == unix.EAGAIN {
		return false
	}
	p.err = os.NewSyscallError("recvmmsg", err)
	return true
}

// drain sends the batch. A datagram that cannot be sent is lost, as on any
// network.
func (p *datagramPump) drain(fd uintptr) bool {
	for {
		switch err := p.b.send(int(fd)); {
		case err == nil:
			return true
		case err == unix.EAGAIN:
			return false
		case p.b.out[p.b.sent].hdr.Controllen > 0 && (err == unix.EIO || err == unix.EINVAL || err == unix.EMSGSIZE):
			p.segment = false
			p.b.arrange(false)
		default:
			p.sendErr = os.NewSyscallError("sendmmsg", err)
			p.b.sent++
		}
	}
}
