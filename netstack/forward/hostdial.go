package forward

import (
	"net/netip"
	"os"
	"syscall"
	"time"

	"github.com/kelp-engine/kelp/netstack/link"
	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// hostDial is a connection that the host makes before a container's SYN is
// answered.
type hostDial struct {
	flows *tcpFlows
	id    flowID
	to    netip.AddrPort
	// The SYN, as the stack has it and as a copy.
	tid stack.TransportEndpointID
	pkt *stack.PacketBuffer
	syn packet

	fd   int
	pump *pump

	// Only the pump's thread uses what follows.
	slot      int32
	expiry    *time.Timer
	watched   bool
	cancelled bool
}

// start dials. It must run on a thread that is in the host's network.
func (d *hostDial) start() {
	var err error
	d.fd, err = link.ConnectTCP(link.Local{}, d.to, func(fd int) {
		beginLocal(fd, d.flows.congestion)
		keepAlive(fd)
		// Its port may still be published, also while the connection lingers.
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	})
	if err != nil {
		d.flows.answer(d, err)
		return
	}
	if err := soError(d.fd); err != nil {
		d.end(err)
		return
	}
	if _, err := syscall.Getpeername(d.fd); err == nil { // the other end is on this host
		d.end(nil)
		return
	}
	d.pump.post(d.watch)
}

// watch waits for the handshake on the pump's thread.
func (d *hostDial) watch() {
	if d.cancelled {
		d.end(os.ErrDeadlineExceeded)
		return
	}
	var err error
	if d.slot, err = d.pump.add(d.fd, socketEvent, d); err != nil {
		d.end(err)
		return
	}
	d.watched, d.expiry = true, time.AfterFunc(dialTimeout, d.abort)
}

// ready implements source.
func (d *hostDial) ready(events uint32) {
	if events&(unix.EPOLLOUT|unix.EPOLLERR|unix.EPOLLHUP) != 0 {
		d.decided(soError(d.fd))
	}
}

// abort gives up, as if nobody had answered. Any goroutine may call it.
func (d *hostDial) abort() {
	d.pump.post(func() {
		d.cancelled = true
		if d.watched {
			d.decided(os.ErrDeadlineExceeded)
		}
	})
}

func (d *hostDial) decided(err error) {
	d.watched = false
	d.expiry.Stop()
	d.pump.off(d.fd, d.slot)
	d.end(err)
}

// end reports what became of the dial.
func (d *hostDial) end(err error) {
	if err == nil && localAddr(d.fd) == d.to {
		err = os.NewSyscallError("connect", unix.ECONNREFUSED) // nobody listens there: the socket met itself
	}
	if err != nil {
		unix.Close(d.fd)
	} else {
		settle(d.fd, d.to, d.flows.congestion)
	}
	d.flows.answer(d, err)
}
