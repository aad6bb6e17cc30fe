// Package dns is the resolver at 127.0.0.11 of each container: it answers for
// the names of the container's networks and forwards everything else.
//
// It must not know where names come from or how networks are built.
package dns

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// Address is where containers find their resolver.
var Address = netip.MustParseAddrPort("127.0.0.11:53")

// Zone knows the names of a container's networks.
type Zone interface {
	// Lookup returns the addresses of a name, in lower case and without the
	// final dot; ok tells whether it is a name of the zone.
	Lookup(name string) (addrs []netip.Addr, ok bool)
	// Reverse returns the name of an address.
	Reverse(addr netip.Addr) (name string, ok bool)
}

// Forwarder sends a query to other resolvers and returns their answer.
type Forwarder interface {
	Forward(ctx context.Context, query []byte, tcp bool) ([]byte, error)
}

const (
	maxMessage = 65535
	// maxQueries bounds the queries of one container that are being forwarded.
	maxQueries = 128
	// maxStreams bounds the TCP connections of one container.
	maxStreams = 16
	// streamIdle ends a TCP connection on which nothing is asked.
	streamIdle = 10 * time.Second
	// queryTimeout ends a query that no resolver answers.
	queryTimeout = 20 * time.Second
	// ttl of the answers from the zone, in seconds. Replicas come and go.
	ttl = 5
)

// Server answers the queries of one container.
type Server struct {
	zone    Zone
	forward Forwarder
	log     *slog.Logger
	udp     *net.UDPConn
	tcp     *net.TCPListener
	cancel  context.CancelFunc
	tasks   sync.WaitGroup
	queries chan struct{}
	streams chan struct{}
}

// Serve answers on two sockets, which the server closes in the end. Without a
// forwarder, names that the zone does not know cannot be resolved.
func Serve(udp *net.UDPConn, tcp *net.TCPListener, zone Zone, forward Forwarder, log *slog.Logger) *Server {
	ctx, cancel := context.WithCancel(context.Background())
	s := &Server{
		zone: zone, forward: forward, log: log, udp: udp, tcp: tcp, cancel: cancel,
		queries: make(chan struct{}, maxQueries),
		streams: make(chan struct{}, maxStreams),
	}
	s.tasks.Go(func() { s.serveUDP(ctx) })
	s.tasks.Go(func() { s.serveTCP(ctx) })
	return s
}

// Close ends the server and what it has under way.
func (s *Server) Close() {
	s.cancel()
	s.udp.Close()
	s.tcp.Close()
	s.tasks.Wait()
}

func (s *Server) serveUDP(ctx context.Context) {
	buf := make([]byte, 4096) // a query is far smaller
	for {
		n, from, err := s.udp.ReadFromUDPAddrPort(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // an ICMP error that an answer of ours caused
		}
		query := append([]byte(nil), buf[:n]...)
		select {
		case s.queries <- struct{}{}:
		default:
			continue // the client asks again
		}
		s.tasks.Go(func() {
			defer func() { <-s.queries }()
			if answer := s.answer(ctx, query, false); answer != nil {
				_, _ = s.udp.WriteToUDPAddrPort(answer, from)
			}
		})
	}
}

func (s *Server) serveTCP(ctx context.Context) {
	for {
		c, err := s.tcp.AcceptTCP()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			s.log.Warn("cannot accept a DNS connection", "error", err)
			time.Sleep(100 * time.Millisecond) // out of descriptors, most likely
			continue
		}
		select {
		case s.streams <- struct{}{}:
		default:
			c.Close()
			continue
		}
		s.tasks.Go(func() {
			defer func() { <-s.streams }()
			defer c.Close()
			stop := context.AfterFunc(ctx, func() { c.Close() })
			defer stop()
			s.serveStream(ctx, c)
		})
	}
}

// serveStream answers the queries of one TCP connection in turn.
func (s *Server) serveStream(ctx context.Context, c net.Conn) {
	for {
		_ = c.SetDeadline(time.Now().Add(streamIdle))
		query, err := readStream(c)
		if err != nil {
			return
		}
		_ = c.SetDeadline(time.Now().Add(queryTimeout + streamIdle))
		answer := s.answer(ctx, query, true)
		if answer == nil || writeStream(c, answer) != nil {
			return
		}
	}
}

func readStream(r io.Reader) ([]byte, error) {
	var head [2]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	b := make([]byte, binary.BigEndian.Uint16(head[:]))
	_, err := io.ReadFull(r, b)
	return b, err
}

func writeStream(w io.Writer, b []byte) error {
	_, err := w.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...))
	return err
}

// answer returns the answer to a query, or nil when it deserves none.
func (s *Server) answer(ctx context.Context, query []byte, tcp bool) []byte {
	q, err := parseQuery(query, tcp)
	if err != nil {
		return nil
	}
	if q.opcode != 0 {
		return q.reply(dnsmessage.RCodeNotImplemented, nil)
	}
	if answer, ok := q.fromZone(s.zone); ok {
		return answer
	}
	if s.forward == nil {
		return q.reply(dnsmessage.RCodeServerFailure, nil)
	}
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	answer, err := s.forward.Forward(ctx, query, tcp)
	if err != nil {
		s.log.Debug("cannot forward a DNS query", "error", err)
		return q.reply(dnsmessage.RCodeServerFailure, nil)
	}
	return answer
}
