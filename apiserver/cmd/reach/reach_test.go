package reach

import (
	"bufio"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"golang.org/x/net/proxy"
)

// place describes a container's endpoint for summaries.
func endpoint(id, ip string, names ...string) *network.EndpointSettings {
	return &network.EndpointSettings{NetworkID: id, IPAddress: netip.MustParseAddr(ip), DNSNames: names}
}

func summary(id, name string, on map[string]*network.EndpointSettings) container.Summary {
	return container.Summary{ID: id, Names: []string{"/" + name}, NetworkSettings: &container.NetworkSettingsSummary{Networks: on}}
}

var testList = []container.Summary{
	summary("aaaaaaaaaaaaaaaa", "web", map[string]*network.EndpointSettings{
		"blue": endpoint("b", "172.18.0.2", "web", "shop"), "red": endpoint("r", "172.19.0.2", "web", "shop"),
	}),
	summary("bbbbbbbbbbbbbbbb", "replica", map[string]*network.EndpointSettings{"red": endpoint("r", "172.19.0.3", "shop")}),
	summary("cccccccccccccccc", "plain", map[string]*network.EndpointSettings{"bridge": endpoint("d", "172.17.0.2")}),
	summary("dddddddddddddddd", "twin", map[string]*network.EndpointSettings{"green": endpoint("g", "172.17.0.2", "twin")}),
}

func TestWhereNamesLead(t *testing.T) {
	for _, c := range []struct{ host, preferred, want string }{
		{"web", "", "b 172.18.0.2"}, // the same container on both networks
		{"WEB.", "r", "r 172.19.0.2"},
		{"web.red", "", "r 172.19.0.2"},
		{"aaaaaaaaaaaa", "b", "b 172.18.0.2"},
		{"shop", "", "shop means different containers on the networks blue and red"},
		{"shop.blue", "", "b 172.18.0.2"},
		{"shop", "r", "r 172.19.0.2 r 172.19.0.3"},
		{"plain", "", "d 172.17.0.2"},
		{"172.18.0.2", "", "b 172.18.0.2"},
		{"172.17.0.2", "", "172.17.0.2 means different containers on the networks bridge and green"},
		{"172.17.0.2", "g", "g 172.17.0.2"},
		{"other", "", ""},
		{"172.18.0.9", "", ""},
	} {
		found, err := onOne(find(members(testList), c.host), c.host, c.preferred)
		var got []string
		for _, m := range found {
			got = append(got, m.networkID+" "+m.addrs[0].String())
		}
		if err != nil {
			got = []string{err.Error()}
		}
		if s := strings.Join(got, " "); s != c.want && (err == nil || !strings.HasPrefix(s, c.want)) {
			t.Errorf("%s (%s): got %q, want %q", c.host, c.preferred, s, c.want)
		}
	}
}

// serveProxy runs a proxy to which every container's port 80 is target.
func serveProxy(t *testing.T, target string, secret Secret) string {
	t.Helper()
	d := &Dialer{
		List: func(context.Context) ([]container.Summary, error) { return testList, nil },
		Connect: func(ctx context.Context, proto, _ string, to netip.AddrPort) (net.Conn, error) {
			if to.Port() != 80 {
				var d net.Dialer
				return d.DialContext(ctx, "tcp", "127.0.0.1:9")
			}
			return net.Dial(proto, target)
		},
	}
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- NewProxy(d.DialContext).Serve(ctx, l, secret) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return l.Addr().String()
}

func web(t *testing.T) string {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s %s %s %q %q", r.Method, r.Host, r.URL, r.Header.Get("X-Forwarded-For"), r.Header.Get("Proxy-Authorization"))
	}))
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

func fetch(t *testing.T, proxyURL *url.URL, target string) (int, string) {
	t.Helper()
	tr := &http.Transport{Proxy: http.ProxyURL(proxyURL), DisableKeepAlives: true}
	resp, err := tr.RoundTrip(httptest.NewRequest("GET", target, nil))
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b)
}

func TestProxyByHTTPAndSOCKS(t *testing.T) {
	secret := NewSecret()
	at := serveProxy(t, web(t), secret)
	user := url.UserPassword(secret.User, secret.Password)
	for _, scheme := range []string{"http", "socks5h"} {
		u := &url.URL{Scheme: scheme, User: user, Host: at}
		if code, body := fetch(t, u, "http://web/x?y"); code != 200 || body != `GET web /x?y "" ""` {
			t.Errorf("%s: %d %s", scheme, code, body)
		}
		wrong := &url.URL{Scheme: scheme, User: url.UserPassword("kelp", "guess"), Host: at}
		if code, body := fetch(t, wrong, "http://web/"); code == 200 {
			t.Errorf("%s with a wrong password: %s", scheme, body)
		}
		if code, body := fetch(t, &url.URL{Scheme: scheme, Host: at}, "http://web/"); code == 200 {
			t.Errorf("%s without a password: %s", scheme, body)
		}
	}
	u := &url.URL{Scheme: "http", User: user, Host: at}
	if code, body := fetch(t, u, "http://web:81/"); code != 502 || !strings.Contains(body, "connection refused") {
		t.Errorf("a closed port: %d %s", code, body)
	}
	if code, body := fetch(t, u, "http://shop/"); code != 502 || !strings.Contains(body, "choose one with --network") {
		t.Errorf("a name of two: %d %s", code, body)
	}
	u.Scheme = "socks5h"
	if _, body := fetch(t, u, "http://web:81/"); !strings.Contains(body, "connection refused") {
		t.Errorf("a closed port by SOCKS: %s", body)
	}
}

func TestAuthorizationScheme(t *testing.T) {
	secret := NewSecret()
	given := base64.StdEncoding.EncodeToString([]byte(secret.User + ":" + secret.Password))
	for text, want := range map[string]bool{"Basic " + given: true, "basic " + given: true, "Bearer " + given: false, given: false, "": false} {
		r := httptest.NewRequest("GET", "http://web/", nil)
		r.Header.Set("Proxy-Authorization", text)
		if authorized(r, secret) != want {
			t.Errorf("%q: want %v", text, want)
		}
	}
}

// A client may end its direction and still read the answer.
func TestTunnelsHalfClose(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				b, _ := io.ReadAll(c)
				c.Write([]byte(strings.ToUpper(string(b))))
				c.Close()
			}()
		}
	}()
	at := serveProxy(t, l.Addr().String(), Secret{})
	socks, err := proxy.SOCKS5("tcp", at, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	bySocks, err := socks.Dial("tcp", "web:80")
	if err != nil {
		t.Fatal(err)
	}
	byConnect, err := net.Dial("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(byConnect, "CONNECT web:80 HTTP/1.1\r\nHost: web:80\r\n\r\n")
	r := bufio.NewReader(byConnect)
	if resp, err := http.ReadResponse(r, nil); err != nil || resp.StatusCode != 200 {
		t.Fatal(resp, err)
	}
	for name, c := range map[string]struct {
		net.Conn
		r io.Reader
	}{"socks": {bySocks, bySocks}, "connect": {byConnect, r}} {
		c.SetDeadline(time.Now().Add(time.Minute))
		fmt.Fprint(c, "kelp")
		if err := c.Conn.(closeWriter).CloseWrite(); err != nil {
			t.Fatal(name, err)
		}
		if b, err := io.ReadAll(c.r); err != nil || string(b) != "KELP" {
			t.Errorf("%s: %q %v", name, b, err)
		}
		c.Close()
	}
}
