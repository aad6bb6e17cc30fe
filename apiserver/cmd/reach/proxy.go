package reach

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/things-go/go-socks5"
	"github.com/things-go/go-socks5/statute"
)

const (
	// maxClients bounds the connections of a listener.
	maxClients = 1024
	// greetTimeout ends a connection on which no request comes.
	greetTimeout = 30 * time.Second
	// dialTimeout ends a connection that nobody accepts.
	dialTimeout = 30 * time.Second
)

// Secret is the user and password that clients have to give. The zero Secret
// asks for none.
type Secret struct{ User, Password string }

// NewSecret makes a password that cannot be guessed.
func NewSecret() Secret { return Secret{User: "kelp", Password: rand.Text()} }

// Valid says whether these are the user and the password; it implements
// socks5.CredentialStore.
func (s Secret) Valid(user, password, _ string) bool {
	u := subtle.ConstantTimeCompare([]byte(user), []byte(s.User))
	p := subtle.ConstantTimeCompare([]byte(password), []byte(s.Password))
	return u&p == 1
}

// Proxy serves SOCKS5 (CONNECT and UDP ASSOCIATE) and HTTP (CONNECT and plain requests) on the
// same listeners.
type Proxy struct {
	dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// NewProxy returns a proxy whose connections dial opens.
func NewProxy(dial func(ctx context.Context, network, address string) (net.Conn, error)) *Proxy {
	return &Proxy{dial: dial}
}

// Serve answers clients until ctx ends, and then breaks their connections.
func (p *Proxy) Serve(ctx context.Context, l net.Listener, secret Secret) error {
	ctx, cancel := context.WithCancel(ctx)
	requests := &handedOver{conns: make(chan net.Conn), ctxDone: ctx.Done(), addr: l.Addr()}
	server := &http.Server{
		Handler: p.handler(ctx, secret), ReadHeaderTimeout: greetTimeout, IdleTimeout: greetTimeout,
	}
	var tasks sync.WaitGroup
	tasks.Go(func() { _ = server.Serve(requests) })
	context.AfterFunc(ctx, func() { l.Close(); server.Close() })
	defer tasks.Wait()
	defer cancel()
	socks := p.socks(ctx, secret)
	room := make(chan struct{}, maxClients)
	for {
		room <- struct{}{}
		c, err := l.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		client := &peekedConn{Conn: c, r: bufio.NewReader(c), closed: sync.OnceFunc(func() { <-room })}
		tasks.Go(func() { greet(ctx, client, socks, requests) })
	}
}

// greet tells SOCKS from HTTP by the first byte.
func greet(ctx context.Context, c *peekedConn, socks *socks5.Server, requests *handedOver) {
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	_ = c.SetDeadline(time.Now().Add(greetTimeout))
	first, err := c.r.Peek(1)
	switch {
	case err != nil:
		c.Close()
	case first[0] == statute.VersionSocks5:
		_ = socks.ServeConn(c) // what went wrong, the client was told
	default:
		_ = c.SetDeadline(time.Time{}) // the server has its own
		requests.give(c)
	}
}

func (p *Proxy) socks(ctx context.Context, secret Secret) *socks5.Server {
	options := []socks5.Option{
		socks5.WithResolver(noResolver{}),
		socks5.WithConnectHandle(func(_ context.Context, w io.Writer, r *socks5.Request) error { return p.socksConnect(ctx, w, r) }),
		socks5.WithAssociateHandle(func(_ context.Context, w io.Writer, r *socks5.Request) error { return p.socksAssociate(ctx, w, r) }),
	}
	if secret != (Secret{}) {
		options = append(options, socks5.WithCredential(secret))
	}
	return socks5.NewServer(options...)
}

// noResolver leaves names to the dialer.
type noResolver struct{}

// Resolve implements socks5.NameResolver.
func (noResolver) Resolve(ctx context.Context, _ string) (context.Context, net.IP, error) {
	return ctx, nil, nil
}

// socksClient is the connection that a request came on; it has no deadline any
// more.
func socksClient(w io.Writer) (*peekedConn, error) {
	client, ok := w.(*peekedConn)
	if !ok {
		return nil, errors.New("the client's connection is not the proxy's")
	}
	return client, client.SetDeadline(time.Time{})
}

func (p *Proxy) socksConnect(ctx context.Context, w io.Writer, r *socks5.Request) error {
	client, err := socksClient(w)
	if err != nil {
		return err
	}
	target, err := p.open(ctx, "tcp", r.DestAddr.String())
	if err != nil {
		return errors.Join(err, socks5.SendReply(w, socksCode(err), nil))
	}
	if err := socks5.SendReply(w, statute.RepSuccess, target.LocalAddr()); err != nil {
		target.Close()
		return err
	}
	tunnel(ctx, readFrom{client, r.Reader}, target)
	return nil
}

func (p *Proxy) open(ctx context.Context, proto, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	return p.dial(ctx, proto, address)
}
