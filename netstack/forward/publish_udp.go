package forward

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kelp-engine/kelp/netstack/link"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"
)

// maxInboundUDP bounds the clients of one published UDP port; the one that was
// quiet for long makes room for a new one.
const maxInboundUDP = 4096

// publishedUDP is one UDP port of the host.
type publishedUDP struct {
	to     Resolve
	log    *slog.Logger
	conn   *net.UDPConn
	cancel context.CancelFunc
	tasks  sync.WaitGroup

	mu      sync.Mutex
	closed  bool
	clients map[udpClient]*inboundUDP
}

// udpClient is a client and the host's address that it speaks to, which
// answers must come from.
type udpClient struct {
	from netip.AddrPort
	to   netip.Addr
}

// inboundUDP is the socket that stands for a client inside the network.
type inboundUDP struct {
	inner   *net.UDPConn
	toInner *datagramSender
	used    atomic.Int64
}

func publishUDP(host netip.AddrPort, to Resolve, log *slog.Logger) (io.Closer, netip.AddrPort, error) {
	lc := listenConfig()
	listen := func() (net.PacketConn, error) {
		return lc.ListenPacket(context.Background(), network("udp", host.Addr()), host.String())
	}
	c, err := listen()
	if errors.Is(err, unix.EADDRINUSE) && vacate(host) {
		c, err = listen()
	}
	if err != nil {
		return nil, netip.AddrPort{}, bindError(host, err)
	}
	_ = c.(*net.UDPConn).SetReadBuffer(link.DatagramBuffer) // smaller is slower, not wrong
	ctx, cancel := context.WithCancel(context.Background())
	p := &publishedUDP{to: to, log: log, conn: c.(*net.UDPConn), cancel: cancel, clients: map[udpClient]*inboundUDP{}}
	if err := p.askDestination(); err != nil {
		cancel()
		c.Close()
		return nil, netip.AddrPort{}, bindError(host, err)
	}
	p.tasks.Go(p.receive)
	p.tasks.Go(func() { p.sweep(ctx) })
	return p, unmapped(c.LocalAddr().(*net.UDPAddr).AddrPort()), nil
}

// askDestination has the kernel tell which of the host's addresses a datagram
// came to.
func (p *publishedUDP) askDestination() error {
	raw, err := p.conn.SyscallConn()
	if err != nil {
		return err
	}
	level, opt := unix.SOL_IP, unix.IP_PKTINFO
	if !unmapped(p.conn.LocalAddr().(*net.UDPAddr).AddrPort()).Addr().Is4() {
		level, opt = unix.SOL_IPV6, unix.IPV6_RECVPKTINFO
	}
	ctl := raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), level, opt, 1) })
	return errors.Join(ctl, err)
}

// Close stops listening and forgets all clients.
func (p *publishedUDP) Close() error {
	p.cancel()
	err := p.conn.Close()
	p.mu.Lock()
	p.closed = true
	for _, c := range p.clients {
		c.inner.Close()
	}
	p.mu.Unlock()
	p.tasks.Wait()
	return err
}

// receive carries datagrams of all clients to the container.
func (p *publishedUDP) receive() {
	receiveBatches(p.conn, func(b *batch) error {
		for first := 0; first < b.n; {
			from, end := b.fromOne(first)
			c, err := p.client(udpClient{unmapped(from), destination(b.info(first))})
			if err != nil {
				p.log.Debug("cannot reach a published port's container", "port", p.conn.LocalAddr(), "error", err)
			} else {
				c.used.Store(now())
				_, _ = c.toInner.send(b, first, end)
			}
			first = end
		}
		return nil
	}, nil)
}

// destination reads a datagram's local address from its control message.
func destination(oob []byte) netip.Addr {
	var c4 ipv4.ControlMessage
	if err := c4.Parse(oob); err == nil && c4.Dst != nil {
		a, _ := netip.AddrFromSlice(c4.Dst)
		return a.Unmap()
	}
	var c6 ipv6.ControlMessage
	if err := c6.Parse(oob); err == nil && c6.Dst != nil {
		a, _ := netip.AddrFromSlice(c6.Dst)
		return a
	}
	return netip.Addr{}
}

// client finds or makes the socket that stands for a client.
func (p *publishedUDP) client(id udpClient) (*inboundUDP, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c := p.clients[id]; c != nil {
		return c, nil
	}
	if p.closed {
		return nil, net.ErrClosed
	}
	if !descriptors.take(id.from.Addr(), socketCost, p.log) {
		return nil, unix.ENFILE
	}
	c, err := p.dial(id.from)
	if err != nil {
		descriptors.give(id.from.Addr(), socketCost)
		return nil, err
	}
	if len(p.clients) >= maxInboundUDP {
		p.dropOldest()
	}
	c.used.Store(now())
	p.clients[id] = c
	p.tasks.Go(func() { p.answer(id, c) })
	return c, nil
}

// dial opens the socket that stands for a client.
func (p *publishedUDP) dial(client netip.AddrPort) (*inboundUDP, error) {
	t, err := p.to()
	if err != nil {
		return nil, err
	}
	inner, err := t.Bridge.DialUDP(t.clientAs(client), t.Container)
	if err != nil {
		return nil, err
	}
	toInner, err := newDatagramSender(inner, netip.AddrPort{}, nil)
	if err != nil {
		inner.Close()
		return nil, err
	}
	return &inboundUDP{inner: inner, toInner: toInner}, nil
}

// dropOldest makes room for a client.
//
// Preconditions: p.mu is held.
func (p *publishedUDP) dropOldest() {
	var oldest udpClient
	var least int64 = -1
	seen := 0
	for id, c := range p.clients {
		if used := c.used.Load(); least < 0 || used < least {
			oldest, least = id, used
		}
		if seen++; seen == oldestOf {
			break
		}
	}
	p.clients[oldest].inner.Close()
	delete(p.clients, oldest)
}

// answer carries the container's datagrams to the client.
func (p *publishedUDP) answer(id udpClient, c *inboundUDP) {
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.clients[id] == c {
			delete(p.clients, id)
		}
		c.inner.Close()
		descriptors.give(id.from.Addr(), socketCost)
	}()
	toClient, err := newDatagramSender(p.conn, id.from, sourceMessage(id.to))
	if err != nil {
		return
	}
	// That nothing listens in the container yet is no reason to stop: the
	// client's next datagram may fare better.
	receiveBatches(c.inner, func(b *batch) error {
		c.used.Store(now())
		_, closed := toClient.send(b, 0, b.n)
		return closed
	}, nil)
}

// sourceMessage makes an answer leave from the address that was spoken to.
func sourceMessage(from netip.Addr) []byte {
	switch {
	case from.Is4():
		return (&ipv4.ControlMessage{Src: from.AsSlice()}).Marshal()
	case from.Is6():
		return (&ipv6.ControlMessage{Src: from.AsSlice()}).Marshal()
	}
	return nil
}

// sweep forgets quiet clients.
func (p *publishedUDP) sweep(ctx context.Context) {
	tick := time.NewTicker(udpSweep)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		p.mu.Lock()
		for id, c := range p.clients {
			if time.Duration(now()-c.used.Load()) > udpIdle {
				c.inner.Close()
				delete(p.clients, id)
			}
		}
		p.mu.Unlock()
	}
}
