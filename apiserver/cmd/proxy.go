package cmd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/urfave/cli/v2"

	"github.com/kelp-engine/kelp/apiserver/cmd/reach"
	"github.com/kelp-engine/kelp/engine/fault"
	"github.com/kelp-engine/kelp/userns/rundir"
)

const portFlag = "port"

var networkFlag = &cli.StringFlag{Name: "network", Usage: "`NETWORK` that is meant, by name or id"}

var proxyCommand = &cli.Command{
	Name:      "proxy",
	Usage:     "reach containers by name and address, published or not",
	ArgsUsage: "[COMMAND [ARGUMENT...]]",
	Description: `With a command, it runs that with http_proxy, https_proxy and ALL_PROXY set:

   kelp proxy curl http://web/

Without one it serves SOCKS5 and HTTP on a unix socket that only you can open and, with
--port, on a port of loopback that asks for the printed password: others on this machine
can reach loopback too.

   curl --proxy socks5h://localhost$XDG_RUNTIME_DIR/kelp/proxy.sock http://web/

A host is a container's name, its short id, one of its aliases, any of these followed by
.NETWORK, or its address. What is no container's is reached as from this machine. SOCKS5
carries TCP and UDP.`,
	Flags: append([]cli.Flag{
		networkFlag,
		&cli.UintFlag{Name: portFlag, Usage: "serve `PORT` of 127.0.0.1 too, with a password; 0 is any free one"},
	}, placeFlags...),
	Action: func(c *cli.Context) error {
		p, err := newProxy(c)
		if err != nil {
			return err
		}
		if c.Args().Present() {
			if c.IsSet(portFlag) {
				return fault.InvalidArgument("--port is for a proxy without a command")
			}
			return p.run(c.Context, c.Args().Slice())
		}
		return p.serve(c)
	},
}

// hostProxy is a proxy and where it is.
type hostProxy struct {
	*reach.Proxy
	runtimeDir string
}

func newProxy(c *cli.Context) (hostProxy, error) {
	s, err := readSettings(c)
	if err != nil {
		return hostProxy{}, err
	}
	r, err := findServing(c.Context, s)
	if err != nil {
		return hostProxy{}, err
	}
	d := &reach.Dialer{List: r.containers, Connect: r.client.Networks().DialNetwork}
	if name := c.String(networkFlag.Name); name != "" {
		n, err := r.network(c.Context, name)
		if err != nil {
			return hostProxy{}, err
		}
		d.Network = n.ID
	}
	return hostProxy{reach.NewProxy(d.DialContext), s.RuntimeDir}, nil
}

// findServing finds a kelp that answers API requests.
func findServing(ctx context.Context, s settings) (running, error) {
	r, err := findLive(ctx, s)
	if err == nil {
		err = r.matches(s)
	}
	if err == nil {
		err = r.client.WaitEngine(ctx)
	}
	return r, err
}

// containers lists the running containers.
func (r running) containers(ctx context.Context) (list []container.Summary, err error) {
	return list, r.getJSON(ctx, "/containers/json", &list)
}

// network finds a network by name or id.
func (r running) network(ctx context.Context, ref string) (n network.Inspect, err error) {
	return n, r.getJSON(ctx, "/networks/"+url.PathEscape(ref), &n)
}

// getJSON makes a request to the Engine API.
func (r running) getJSON(ctx context.Context, path string, v any) error {
	return get(ctx, r.Socket, path, func(b io.Reader) error { return json.NewDecoder(b).Decode(v) })
}

// serve runs the proxy in the foreground and prints where it is.
func (p hostProxy) serve(c *cli.Context) error {
	socket, err := rundir.Listen(filepath.Join(p.runtimeDir, rundir.ProxySocket))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(c.Context)
	defer cancel()
	ended := make(chan error, 2)
	go func() { ended <- p.Serve(ctx, ownersOnly{socket}, reach.Secret{}) }()
	fmt.Fprintf(c.App.Writer, "unix://%s\n", socket.Addr())
	n := 1
	if c.IsSet(portFlag) {
		address, err := p.serveLoopback(ctx, c.Uint(portFlag), ended)
		if err != nil {
			return err
		}
		fmt.Fprintln(c.App.Writer, address)
		n++
	}
	for ; n > 0; n-- {
		if e := <-ended; e != nil {
			err = e
			cancel()
		}
	}
	return err
}

// serveLoopback serves a port of loopback and returns the proxy's URL.
func (p hostProxy) serveLoopback(ctx context.Context, port uint, ended chan<- error) (string, error) {
	if port > 65535 {
		return "", fault.InvalidArgument("there is no port %d", port)
	}
	l, err := net.Listen("tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(int(port))))
	if err != nil {
		return "", fmt.Errorf("cannot serve the proxy: %w", err)
	}
	secret := reach.NewSecret()
	go func() { ended <- p.Serve(ctx, l, secret) }()
	u := url.URL{Scheme: "http", User: url.UserPassword(secret.User, secret.Password), Host: l.Addr().String()}
	return u.String(), nil
}

// ownersOnly accepts connections of our own user alone.
type ownersOnly struct{ *net.UnixListener }

// Accept implements net.Listener.
func (o ownersOnly) Accept() (net.Conn, error) {
	for {
		c, err := o.AcceptUnix()
		if err != nil || rundir.PeerIsOwner(c) {
			return c, err
		}
		c.Close()
	}
}

// run runs a command that uses the proxy, which ends with it.
func (p hostProxy) run(ctx context.Context, args []string) error {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx)) // signals are the command's
	defer cancel()
	ended := make(chan error, 1)
	address, err := p.serveLoopback(ctx, 0, ended)
	if err != nil {
		return err
	}
	err = runCommand(args, proxyEnv(os.Environ(), address))
	cancel()
	return errors.Join(err, <-ended)
}

// proxyEnv sets the variables that programs look for a proxy in, and leaves out
// those that name exceptions.
func proxyEnv(env []string, address string) []string {
	var kept []string
	for _, e := range env {
		name, _, _ := strings.Cut(e, "=")
		switch strings.ToLower(name) {
		case "http_proxy", "https_proxy", "all_proxy", "no_proxy":
		default:
			kept = append(kept, e)
		}
	}
	for _, name := range []string{"http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"} {
		kept = append(kept, name+"="+address)
	}
	return kept
}
