package reach

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"strings"
	"time"

	"github.com/things-go/go-socks5/statute"
	"golang.org/x/sys/unix"
)

// handler serves HTTP proxy requests.
func (p *Proxy) handler(ctx context.Context, secret Secret) http.Handler {
	plain := &httputil.ReverseProxy{
		Transport: &http.Transport{
			DialContext: func(ctx context.Context, _, address string) (net.Conn, error) { return p.open(ctx, "tcp", address) },
			// The client's wishes pass as they are.
			DisableCompression: true,
			IdleConnTimeout:    greetTimeout,
		},
		Rewrite: func(r *httputil.ProxyRequest) {
			for name, values := range r.In.Header {
				if name == "Forwarded" || strings.HasPrefix(name, "X-Forwarded-") {
					r.Out.Header[name] = values
				}
			}
		},
		FlushInterval: -1,
		ErrorHandler:  func(w http.ResponseWriter, _ *http.Request, err error) { refuse(w, err) },
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case secret != (Secret{}) && !authorized(r, secret):
			w.Header().Set("Proxy-Authenticate", `Basic realm="kelp proxy"`)
			http.Error(w, "this proxy wants the user and password that 'kelp proxy' printed", http.StatusProxyAuthRequired)
		case r.Method == http.MethodConnect:
			p.connect(ctx, w, r)
		case r.URL.Scheme == "http" && r.URL.Host != "":
			plain.ServeHTTP(w, r)
		default:
			http.Error(w, "this is a proxy: use it as http_proxy or with curl --proxy", http.StatusBadRequest)
		}
	})
}

func authorized(r *http.Request, secret Secret) bool {
	scheme, encoded, _ := strings.Cut(r.Header.Get("Proxy-Authorization"), " ")
	if !strings.EqualFold(scheme, "Basic") {
		return false
	}
	b, err := base64.StdEncoding.DecodeString(encoded)
	user, password, ok := strings.Cut(string(b), ":")
	return err == nil && ok && secret.Valid(user, password, "")
}

// connect makes the client's connection one to where it asks for.
func (p *Proxy) connect(ctx context.Context, w http.ResponseWriter, r *http.Request) {
	target, err := p.open(ctx, "tcp", r.Host)
	if err != nil {
		refuse(w, err)
		return
	}
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		target.Close()
		refuse(w, err)
		return
	}
	_ = conn.SetDeadline(time.Time{})
	if _, err := fmt.Fprint(conn, "HTTP/1.1 200 Connection established\r\n\r\n"); err != nil {
		target.Close()
		conn.Close()
		return
	}
	tunnel(ctx, readFrom{conn.(*peekedConn), buffered.Reader}, target)
}

// refuse tells an HTTP client why there is no connection.
func refuse(w http.ResponseWriter, err error) {
	code := http.StatusBadGateway
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, unix.ETIMEDOUT) {
		code = http.StatusGatewayTimeout
	}
	http.Error(w, "kelp proxy: "+err.Error(), code)
}

// socksCode is the reason that a SOCKS client is told.
func socksCode(err error) uint8 {
	switch {
	case errors.Is(err, unix.ECONNREFUSED):
		return statute.RepConnectionRefused
	case errors.Is(err, unix.ENETUNREACH):
		return statute.RepNetworkUnreachable
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, unix.ETIMEDOUT):
		return statute.RepTTLExpired
	}
	return statute.RepHostUnreachable
}
