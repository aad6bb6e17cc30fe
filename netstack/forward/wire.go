package forward

import (
	"encoding/binary"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/kelp-engine/kelp/netstack/link"
	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// wire is an uplink as a link endpoint of the stack. (The stack's own fdbased
// endpoint never closes the descriptors it makes, and holds 128 KiB of
// buffers for each packet of a batch.)
type wire struct {
	at  atomic.Pointer[wireSocket]
	mac tcpip.LinkAddress
	mtu atomic.Uint32

	mu         sync.Mutex
	dispatcher stack.NetworkDispatcher
}

// wireSocket is the uplink's socket. Another takes its place when the uplink
// was removed from outside.
type wireSocket struct {
	file   *os.File
	raw    syscall.RawConn
	reader sync.WaitGroup
}

func newWireSocket(file *os.File) (*wireSocket, error) {
	raw, err := file.SyscallConn()
	return &wireSocket{file: file, raw: raw}, err
}

// start passes frames on until stop or the uplink's end.
func (s *wireSocket) start(deliver func([]byte)) { s.reader.Go(func() { s.read(deliver) }) }

// stop returns when nothing is passed on any more.
func (s *wireSocket) stop() {
	_ = s.file.SetReadDeadline(time.Unix(1, 0))
	s.reader.Wait()
}

// The header that the kernel puts before each frame of the uplink, struct
// virtio_net_hdr.
const (
	vnetSize        = 10
	vnetNeedsCsum   = 1
	vnetGSOTCPv4    = 1
	vnetGSOTCPv6    = 4
	maxFrame        = header.EthernetMinimumSize + 65535
	wireBatch       = 64
	maxWriteVectors = 64
)

var (
	_ stack.LinkEndpoint = (*wire)(nil)
	_ stack.GSOEndpoint  = (*wire)(nil)
)

func newWire(u *link.Uplink) (*wire, error) {
	s, err := newWireSocket(u.Socket)
	if err != nil {
		return nil, err
	}
	w := &wire{mac: tcpip.LinkAddress(u.StackMAC)}
	w.at.Store(s)
	w.mtu.Store(uint32(u.MTU))
	return w, nil
}

// replace goes on with another socket.
func (w *wire) replace(file *os.File) error {
	s, err := newWireSocket(file)
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.at.Load().stop()
	w.at.Store(s)
	if d := w.dispatcher; d != nil {
		s.start(func(frame []byte) { w.deliver(d, frame) })
	}
	return nil
}

// Attach implements stack.LinkEndpoint: it starts to read, or with nil stops.
func (w *wire) Attach(d stack.NetworkDispatcher) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if d == nil {
		w.at.Load().stop()
		w.dispatcher = nil
		return
	}
	if w.dispatcher == nil {
		w.dispatcher = d
		w.at.Load().start(func(frame []byte) { w.deliver(d, frame) })
	}
}

// IsAttached implements stack.LinkEndpoint.
func (w *wire) IsAttached() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.dispatcher != nil
}

// Wait implements stack.LinkEndpoint.
func (w *wire) Wait() { w.at.Load().reader.Wait() }

// MTU implements stack.LinkEndpoint.
func (w *wire) MTU() uint32 { return w.mtu.Load() }

// SetMTU implements stack.LinkEndpoint.
func (w *wire) SetMTU(mtu uint32) { w.mtu.Store(mtu) }

// MaxHeaderLength implements stack.LinkEndpoint.
func (w *wire) MaxHeaderLength() uint16 { return header.EthernetMinimumSize }

// LinkAddress implements stack.LinkEndpoint.
func (w *wire) LinkAddress() tcpip.LinkAddress { return w.mac }

// SetLinkAddress implements stack.LinkEndpoint. The address is the uplink's.
func (w *wire) SetLinkAddress(tcpip.LinkAddress) {}

// Capabilities implements stack.LinkEndpoint. Senders on this machine leave
// checksums to the device, so those that come in need no look.
func (w *wire) Capabilities() stack.LinkEndpointCapabilities {
	return stack.CapabilityRXChecksumOffload | stack.CapabilityResolutionRequired
}

// GSOMaxSize implements stack.GSOEndpoint.
func (w *wire) GSOMaxSize() uint32 { return gsoSize }

// SupportedGSO implements stack.GSOEndpoint.
func (w *wire) SupportedGSO() stack.SupportedGSO { return stack.HostGSOSupported }

// ARPHardwareType implements stack.LinkEndpoint.
func (w *wire) ARPHardwareType() header.ARPHardwareType { return header.ARPHardwareEther }

// Close implements stack.LinkEndpoint. The uplink is its owner's to close.
func (w *wire) Close() {}

// SetOnCloseAction implements stack.LinkEndpoint.
func (w *wire) SetOnCloseAction(func()) {}

// AddHeader implements stack.LinkEndpoint.
func (w *wire) AddHeader(pkt *stack.PacketBuffer) {
	header.Ethernet(pkt.LinkHeader().Push(header.EthernetMinimumSize)).Encode(&header.EthernetFields{
		SrcAddr: pkt.EgressRoute.LocalLinkAddress,
		DstAddr: pkt.EgressRoute.RemoteLinkAddress,
		Type:    pkt.NetworkProtocolNumber,
	})
}

// ParseHeader implements stack.LinkEndpoint.
func (w *wire) ParseHeader(pkt *stack.PacketBuffer) bool {
	h, ok := pkt.LinkHeader().Consume(header.EthernetMinimumSize)
	if ok {
		pkt.NetworkProtocolNumber = header.Ethernet(h).Type()
	}
	return ok
}

func (s *wireSocket) read(deliver func([]byte)) {
	buf := make([]byte, vnetSize+maxFrame)
	receive := func(fd uintptr) bool {
		for range wireBatch { // then look whether to stop
			n, err := unix.Read(int(fd), buf)
			switch err {
			case nil:
				deliver(buf[:n])
			case unix.EINTR, unix.ENETDOWN:
			case unix.EAGAIN:
				return false
			default:
				return true
			}
		}
		return true
	}
	for s.raw.Read(receive) == nil {
	}
}

// deliver hands a copy of one frame to the stack.
func (w *wire) deliver(d stack.NetworkDispatcher, b []byte) {
	if len(b) < vnetSize+header.EthernetMinimumSize {
		return
	}
	frame := b[vnetSize:]
	if tcpip.LinkAddress(header.Ethernet(frame).DestinationAddress()) != w.mac {
		return // broadcasts and multicasts have nowhere to go
	}
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(frame)})
	defer pkt.DecRef()
	if w.ParseHeader(pkt) {
		pkt.RXChecksumValidated = true
		d.DeliverNetworkPacket(pkt.NetworkProtocolNumber, pkt)
	}
}

// WritePackets implements stack.LinkEndpoint. A frame for which the socket
// has no room is lost, as on any wire.
func (w *wire) WritePackets(pkts stack.PacketBufferList) (sent int, terr tcpip.Error) {
	err := w.at.Load().raw.Write(func(fd uintptr) bool {
		for _, pkt := range pkts.AsSlice() {
			if errno := writeFrame(int(fd), pkt); errno != 0 {
				terr = tcpip.TranslateErrno(errno)
				break
			}
			sent++
		}
		return true
	})
	if err != nil {
		return sent, &tcpip.ErrClosedForSend{}
	}
	return sent, terr
}

func writeFrame(fd int, pkt *stack.PacketBuffer) unix.Errno {
	vnet := vnetHeader(pkt)
	vectors := append(make([][]byte, 0, 8), vnet[:])
	vectors = append(vectors, pkt.AsSlices()...)
	if len(vectors) > maxWriteVectors {
		v := pkt.ToView()
		defer v.Release()
		vectors = [][]byte{vnet[:], v.AsSlice()}
	}
	for {
		_, err := unix.Writev(fd, vectors)
		if err == nil {
			return 0
		}
		if err != unix.EINTR {
			return err.(unix.Errno)
		}
	}
}

// vnetHeader tells the kernel to cut a large segment and sum its pieces.
func vnetHeader(pkt *stack.PacketBuffer) (h [vnetSize]byte) {
	gso := pkt.GSOOptions
	if gso.Type == stack.GSONone {
		return h
	}
	binary.NativeEndian.PutUint16(h[2:], uint16(pkt.HeaderSize()))
	if gso.NeedsCsum {
		h[0] = vnetNeedsCsum
		binary.NativeEndian.PutUint16(h[6:], header.EthernetMinimumSize+gso.L3HdrLen)
		binary.NativeEndian.PutUint16(h[8:], gso.CsumOffset)
	}
	if pkt.Data().Size() > int(gso.MSS) {
		h[1] = vnetGSOTCPv4
		if gso.Type == stack.GSOTCPv6 {
			h[1] = vnetGSOTCPv6
		}
		binary.NativeEndian.PutUint16(h[4:], gso.MSS)
	}
	return h
}
