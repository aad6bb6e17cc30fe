package reach

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/things-go/go-socks5"
	"github.com/things-go/go-socks5/statute"
)

const (
	// maxTargets bounds what one association sends to at the same time.
	maxTargets = 64
	// targetIdle is how long a target is kept that says nothing.
	targetIdle = 2 * time.Minute
	// targetQueue is how many datagrams wait for a target to be dialled.
	targetQueue = 16
	// ownerTrust is how long it is believed whose the client's port is.
	ownerTrust = time.Second

	maxDatagram = 65535
)

// association relays the datagrams of one SOCKS client (RFC 1928, section 7)
// while its connection lasts. They come to a port of loopback, which all users
// of the host can send to: only sockets of our own user are listened to, and
// only the one that the client has named, if it did.
type association struct {
	proxy *Proxy
	relay *net.UDPConn
	tasks sync.WaitGroup

	named netip.AddrPort // the zero AddrPort is none
	// trusted are the client's sockets and when they were last seen to be our
	// user's. Only receive uses it.
	trusted map[netip.AddrPort]time.Time

	mu      sync.Mutex
	targets map[target]chan []byte
}

// target is a host:port that one of the client's sockets sends to.
type target struct {
	client  netip.AddrPort
	address string
}

func (p *Proxy) socksAssociate(ctx context.Context, w io.Writer, r *socks5.Request) error {
	control, err := socksClient(w)
	if err != nil {
		return err
	}
	relay, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return errors.Join(err, socks5.SendReply(w, statute.RepServerFailure, nil))
	}
	ctx, cancel := context.WithCancel(ctx)
	a := &association{proxy: p, relay: relay, trusted: map[netip.AddrPort]time.Time{}, targets: map[target]chan []byte{}}
	if named := r.DestAddr; named != nil && named.Port != 0 {
		a.named = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(named.Port))
	}
	context.AfterFunc(ctx, func() { relay.Close() })
	defer a.tasks.Wait()
	defer cancel()
	if err := socks5.SendReply(w, statute.RepSuccess, relay.LocalAddr()); err != nil {
		return err
	}
	a.tasks.Go(func() { a.receive(ctx) })
	_, err = io.Copy(io.Discard, readFrom{control, r.Reader}) // it ends with the connection
	return err
}

// receive takes the client's datagrams.
func (a *association) receive(ctx context.Context) {
	buf := make([]byte, maxDatagram)
	for {
		n, from, err := a.relay.ReadFromUDPAddrPort(buf)
		if err != nil {
			return
		}
		from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
		if !a.isClient(from) {
			continue
		}
		d, err := statute.ParseDatagram(buf[:n])
		if err != nil || d.Frag != 0 { // fragments are for nobody: no client sends any
			continue
		}
		if to := a.queue(ctx, target{from, d.DstAddr.String()}); to != nil {
			select {
			case to <- append([]byte(nil), d.Data...):
			default: // as on a network that is too slow
			}
		}
	}
}

// isClient says whether a datagram is the client's, by where it came from.
func (a *association) isClient(from netip.AddrPort) bool {
	if a.named.IsValid() && from != a.named {
		return false
	}
	if time.Since(a.trusted[from]) <= ownerTrust {
		return true
	}
	if !ownUDP(from) {
		return false
	}
	if len(a.trusted) > maxTargets {
		clear(a.trusted)
	}
	a.trusted[from] = time.Now()
	return true
}

// queue is what a target is sent from, nil when there are too many.
func (a *association) queue(ctx context.Context, t target) chan<- []byte {
	a.mu.Lock()
	defer a.mu.Unlock()
	queue := a.targets[t]
	if queue == nil && len(a.targets) < maxTargets {
		queue = make(chan []byte, targetQueue)
		a.targets[t] = queue
		a.tasks.Go(func() {
			a.carry(ctx, t, queue)
			a.mu.Lock()
			defer a.mu.Unlock()
			delete(a.targets, t)
		})
	}
	return queue
}

// carry exchanges datagrams with one target until it has been quiet for long.
func (a *association) carry(ctx context.Context, t target, queue <-chan []byte) {
	conn, err := a.proxy.open(ctx, "udp", t.address)
	if err != nil {
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	defer conn.Close()
	a.tasks.Go(func() {
		defer cancel()
		a.answer(conn, t.client)
	})
	for {
		select {
		case <-ctx.Done():
			return
		case b := <-queue:
			_ = conn.SetReadDeadline(time.Now().Add(targetIdle))
			_, _ = conn.Write(b) // an error is of an earlier datagram
		}
	}
}

// answer brings what a target sends to the client.
func (a *association) answer(conn net.Conn, client netip.AddrPort) {
	head, err := statute.NewDatagram(conn.RemoteAddr().String(), nil)
	if err != nil {
		return
	}
	header := head.Header()
	buf := make([]byte, maxDatagram)
	copy(buf, header)
	for {
		_ = conn.SetReadDeadline(time.Now().Add(targetIdle))
		n, err := conn.Read(buf[len(header):])
		if err != nil {
			if isTimeout(err) || errors.Is(err, net.ErrClosed) {
				return
			}
			continue // what ICMP said of a datagram
		}
		if _, err := a.relay.WriteToUDPAddrPort(buf[:len(header)+n], client); errors.Is(err, net.ErrClosed) {
			return
		}
	}
}

func isTimeout(err error) bool {
	timeout, ok := errors.AsType[net.Error](err)
	return ok && timeout.Timeout()
}
