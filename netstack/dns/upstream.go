package dns

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// Dial opens a connection ("udp" or "tcp") to a resolver.
type Dial func(ctx context.Context, network string, server netip.AddrPort) (net.Conn, error)

// DialHost opens connections of the host.
func DialHost(ctx context.Context, network string, server netip.AddrPort) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, network, server.String())
}

const (
	// attemptTimeout is how long one resolver may take.
	attemptTimeout = 4 * time.Second
	// patience is how long one is waited for before the next is asked as well.
	patience = 500 * time.Millisecond
	// rounds is how often each is asked.
	rounds = 2
)

// Upstream forwards queries to some resolvers.
type Upstream struct {
	Servers func() []netip.AddrPort
	Dial    Dial

	limit time.Duration // instead of attemptTimeout, in tests
}

// Fixed are servers that do not change.
func Fixed(servers ...netip.AddrPort) func() []netip.AddrPort {
	return func() []netip.AddrPort { return servers }
}

// attempt is what became of asking one resolver.
type attempt struct {
	answer []byte
	err    error
}

// Forward implements Forwarder. Resolvers are asked in turn, the next one when
// one fails or takes long; the first answer that is no failure counts.
func (u *Upstream) Forward(ctx context.Context, query []byte, tcp bool) ([]byte, error) {
	servers := u.Servers()
	if len(servers) == 0 {
		return nil, errors.New("there is no resolver to ask")
	}
	var asked sync.WaitGroup
	defer asked.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	results := make(chan attempt, rounds*len(servers))
	next, pending := 0, 0
	ask := func() {
		server := servers[next%len(servers)]
		next++
		pending++
		asked.Go(func() {
			answer, err := u.ask(ctx, server, query, tcp)
			if err != nil {
				err = fmt.Errorf("cannot ask %s: %w", server, err)
			}
			results <- attempt{answer, err}
		})
	}
	ask()
	slow := time.NewTimer(patience)
	defer slow.Stop()
	var failed []byte // the answer of a resolver that could not find out
	var errs []error
	for pending > 0 {
		select {
		case r := <-results:
			pending--
			switch {
			case r.err != nil:
				errs = append(errs, r.err)
			case !isFailure(r.answer):
				return r.answer, nil
			default:
				failed = r.answer
			}
		case <-slow.C:
		}
		if next < rounds*len(servers) && ctx.Err() == nil {
			ask()
			slow.Reset(patience)
		}
	}
	if failed != nil {
		return failed, nil
	}
	return nil, errors.Join(errs...)
}

// isFailure says whether another resolver may know better: this one failed, or
// refuses to work for us.
func isFailure(answer []byte) bool {
	var p dnsmessage.Parser
	h, err := p.Start(answer)
	return err != nil || h.RCode == dnsmessage.RCodeServerFailure || h.RCode == dnsmessage.RCodeRefused
}

// ask puts the query to one resolver under an identifier of our own.
func (u *Upstream) ask(ctx context.Context, server netip.AddrPort, query []byte, tcp bool) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(u.limit, attemptTimeout))
	defer cancel()
	network := "udp"
	if tcp {
		network = "tcp"
	}
	c, err := u.Dial(ctx, network, server)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	defer stop()

	theirs := binary.BigEndian.Uint16(query)
	ours := uint16(rand.Uint32())
	query = append([]byte(nil), query...)
	binary.BigEndian.PutUint16(query, ours)
	exchange := exchangeUDP
	if tcp {
		exchange = exchangeTCP
	}
	answer, err := exchange(c, query)
	if err != nil {
		return nil, err
	}
	binary.BigEndian.PutUint16(answer, theirs)
	return answer, nil
}

func exchangeTCP(c net.Conn, query []byte) ([]byte, error) {
	if err := writeStream(c, query); err != nil {
		return nil, err
	}
	answer, err := readStream(c)
	if err == nil && !answers(answer, query) {
		err = errors.New("the answer is for another question")
	}
	return answer, err
}

func exchangeUDP(c net.Conn, query []byte) ([]byte, error) {
	if _, err := c.Write(query); err != nil {
		return nil, err
	}
	buf := make([]byte, maxMessage)
	for {
		n, err := c.Read(buf)
		if err != nil {
			return nil, err
		}
		if answers(buf[:n], query) { // else it is late or forged
			return append([]byte(nil), buf[:n]...), nil
		}
	}
}

// answers tells whether a message is the answer to a query: same identifier,
// same question.
func answers(answer, query []byte) bool {
	var a, q dnsmessage.Parser
	ah, err := a.Start(answer)
	if err != nil {
		return false
	}
	qh, err := q.Start(query)
	if err != nil || !ah.Response || ah.ID != qh.ID {
		return false
	}
	asked, err := q.Question()
	if err != nil {
		return false
	}
	answered, err := a.Question()
	if errors.Is(err, dnsmessage.ErrSectionDone) {
		return ah.RCode != dnsmessage.RCodeSuccess // some refuse without repeating the question
	}
	return err == nil && answered.Type == asked.Type && answered.Class == asked.Class && equalName(answered.Name, asked.Name)
}

func equalName(a, b dnsmessage.Name) bool {
	if a.Length != b.Length {
		return false
	}
	for i := range a.Length {
		if lower(a.Data[i]) != lower(b.Data[i]) {
			return false
		}
	}
	return true
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		c += 'a' - 'A'
	}
	return c
}

// HostResolvers are the resolvers in a resolv.conf, read again when the file
// has changed.
type HostResolvers struct {
	Path string

	mu      sync.Mutex
	checked time.Time
	seen    os.FileInfo
	servers []netip.AddrPort
}

// recheck is how long the file is taken to be unchanged.
const recheck = time.Second

// Servers returns the resolvers now in the file; those of before when it
// cannot be read.
func (h *HostResolvers) Servers() []netip.AddrPort {
	h.mu.Lock()
	defer h.mu.Unlock()
	if time.Since(h.checked) < recheck {
		return h.servers
	}
	h.checked = time.Now()
	info, err := os.Stat(h.Path)
	if err != nil || h.seen != nil && os.SameFile(info, h.seen) && info.ModTime().Equal(h.seen.ModTime()) && info.Size() == h.seen.Size() {
		return h.servers
	}
	b, err := os.ReadFile(h.Path)
	if err != nil {
		return h.servers
	}
	h.seen, h.servers = info, nil
	for _, a := range ParseResolvConf(b).Servers {
		h.servers = append(h.servers, netip.AddrPortFrom(a, Address.Port()))
	}
	return h.servers
}
