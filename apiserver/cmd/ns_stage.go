package cmd

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/kelp-engine/kelp/apiserver/cmd/reach"
	"github.com/kelp-engine/kelp/engine/keeper"
	"github.com/kelp-engine/kelp/netstack/dns"
	"github.com/kelp-engine/kelp/userns/enter"
	"github.com/kelp-engine/kelp/userns/procid"
)

// `kelp ns` becomes the command in three steps: it starts a resolver, which
// stays on the host; it executes itself inside the namespaces, where it opens
// the resolver's sockets and hands them over; then it gives up its powers, for
// which it executes itself once more with --as-me, and executes the command. So
// the command has the process, and with it the terminal, the signals and the
// exit code.
const (
	nsEnv       = "KELP_NS"          // an nsStage
	resolverEnv = "KELP_NS_RESOLVER" // a resolverStage
)

// nsStage is what `kelp ns` does inside the namespaces.
type nsStage struct {
	Args       []string `json:"args"`
	RuntimeDir string   `json:"runtime_dir"`
	// Resolver is the descriptor of a socket to the resolver; 0 for none.
	Resolver int `json:"resolver,omitempty"`
	// ResolvConf is what /etc/resolv.conf says when there is no resolver.
	ResolvConf []byte `json:"resolv_conf,omitempty"`
	// User is whom the command appears to be; nil is root.
	User *nsUser `json:"user,omitempty"`
	// Privileged leaves root all its powers over the network.
	Privileged bool `json:"privileged,omitempty"`
}

type nsUser struct{ UID, GID int }

// powers of a command that appears to be root: it may look at the network and
// serve in it, and become another user, as tcpdump does.
var powers = []uintptr{unix.CAP_NET_RAW, unix.CAP_NET_BIND_SERVICE, unix.CAP_SETUID, unix.CAP_SETGID, unix.CAP_CHOWN}

// IsNetworkStage says whether `kelp ns` has executed this process.
func IsNetworkStage() bool { return os.Getenv(nsEnv) != "" || os.Getenv(resolverEnv) != "" }

// NetworkStage runs one of the stages of `kelp ns`. It returns only when that
// fails or, for the resolver, when the command has ended.
func NetworkStage() int {
	runtime.LockOSThread()
	stage := runNamed
	if os.Getenv(resolverEnv) != "" {
		stage = runResolver
	}
	err := stage()
	if exit, ok := errors.AsType[exitCode](err); ok {
		return int(exit)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "kelp:", err)
		return 1
	}
	return 0
}

func runNamed() error {
	var n nsStage
	if err := json.Unmarshal([]byte(os.Getenv(nsEnv)), &n); err != nil {
		return fmt.Errorf("cannot read what to run from %s: %w", nsEnv, err)
	}
	os.Unsetenv(nsEnv)
	if _, err := enter.Entered(); err != nil {
		return err
	}
	if n.Resolver != 0 {
		at, err := n.openResolver()
		if err != nil {
			return fmt.Errorf("cannot resolve the network's names: %w", err)
		}
		n.ResolvConf = resolvConf(at)
	}
	if n.ResolvConf != nil {
		if err := n.coverFiles(); err != nil {
			return err
		}
	}
	if u := n.User; u != nil {
		again := nsStage{Args: n.Args, Privileged: true} // there is nothing to drop
		return fmt.Errorf("cannot appear as yourself: %w", enter.ExecAs(u.UID, u.GID, append(os.Environ(), nsEnv+"="+encode(again))))
	}
	if !n.Privileged {
		if err := enter.Limit(powers...); err != nil {
			return err
		}
	}
	path, err := exec.LookPath(n.Args[0])
	if err == nil {
		err = os.NewSyscallError("execve", syscall.Exec(path, n.Args, os.Environ()))
	}
	return notRunnable(n.Args[0], err)
}

// coverFiles makes programs ask the resolvers of ResolvConf, and nobody else.
func (n *nsStage) coverFiles() error {
	files := map[string][]byte{"/etc/resolv.conf": n.ResolvConf}
	if b, err := os.ReadFile("/etc/nsswitch.conf"); err == nil {
		files["/etc/nsswitch.conf"] = namesByDNS(b)
	}
	if err := enter.Cover(n.RuntimeDir, files); err != nil {
		return err
	}
	return enter.Hide("/run/nscd") // the host's cache of names
}

// namesByDNS is an nsswitch.conf in which host names come from files and DNS
// alone.
func namesByDNS(b []byte) []byte {
	var out bytes.Buffer
	for line := range strings.Lines(string(b)) {
		if !strings.HasPrefix(strings.TrimSpace(line), "hosts:") {
			out.WriteString(line)
		}
	}
	out.WriteString("\nhosts: files dns\n")
	return out.Bytes()
}

// resolvConf is the host's own, but for the resolver.
func resolvConf(at netip.Addr) []byte {
	b, _ := os.ReadFile("/etc/resolv.conf") // a host without one has no search list either
	conf := dns.ParseResolvConf(b)
	conf.Servers = []netip.Addr{at}
	conf.Options = append(conf.Options, "ndots:0")
	return conf.Format()
}

// openResolver opens the resolver's sockets in this network namespace and
// hands them over.
func (n *nsStage) openResolver() (netip.Addr, error) {
	f := os.NewFile(uintptr(n.Resolver), "resolver")
	conn, err := net.FileConn(f)
	f.Close()
	if err != nil {
		return netip.Addr{}, err
	}
	defer conn.Close()
	udp, tcp, err := listenDNS()
	if err != nil {
		return netip.Addr{}, err
	}
	defer udp.Close()
	defer tcp.Close()
	udpFile, err := udp.File()
	if err != nil {
		return netip.Addr{}, err
	}
	defer udpFile.Close()
	tcpFile, err := tcp.File()
	if err != nil {
		return netip.Addr{}, err
	}
	defer tcpFile.Close()
	at := udp.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap()
	return at, keeper.WriteMessage(conn.(*net.UnixConn), struct{}{}, udpFile, tcpFile)
}

// listenDNS takes a loopback address for the resolver: each command in the
// same network has one.
func listenDNS() (udp *net.UDPConn, tcp *net.TCPListener, err error) {
	at := dns.Address.Addr()
	for range 64 {
		addr := netip.AddrPortFrom(at, dns.Address.Port())
		if udp, err = net.ListenUDP("udp4", net.UDPAddrFromAddrPort(addr)); err == nil {
			if tcp, err = net.ListenTCP("tcp4", net.TCPAddrFromAddrPort(addr)); err == nil {
				return udp, tcp, nil
			}
			udp.Close()
		}
		if !errors.Is(err, unix.EADDRINUSE) {
			break
		}
		at = at.Next()
	}
	return nil, nil, err
}

// resolverStage is what the resolver of a `kelp ns` serves.
type resolverStage struct {
	Socket    string    `json:"socket"` // of the Engine API
	NetworkID string    `json:"network_id"`
	Command   procid.ID `json:"command"` // with which it ends
}

// startResolver starts the resolver of a network and returns the descriptor,
// open across execve, by which it waits for its sockets.
func (r running) startResolver(networkID string) (fd int, err error) {
	me, err := procid.Of(os.Getpid())
	if err != nil {
		return 0, err
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, os.NewSyscallError("socketpair", err)
	}
	theirs := os.NewFile(uintptr(pair[1]), "resolver")
	defer theirs.Close()
	stage := resolverStage{Socket: r.Socket, NetworkID: networkID, Command: me}
	cmd := exec.Command("/proc/self/exe")
	cmd.Args[0] = filepath.Base(os.Args[0])
	cmd.Env = append(os.Environ(), resolverEnv+"="+encode(stage))
	cmd.ExtraFiles = []*os.File{theirs}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // the terminal's signals are the command's
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("cannot start the network's resolver: %w", err)
	}
	_, err = unix.FcntlInt(uintptr(pair[0]), unix.F_SETFD, 0)
	return pair[0], os.NewSyscallError("fcntl", err)
}

// runResolver is the resolver.
func runResolver() error {
	var s resolverStage
	if err := json.Unmarshal([]byte(os.Getenv(resolverEnv)), &s); err != nil {
		return fmt.Errorf("cannot read what to resolve from %s: %w", resolverEnv, err)
	}
	os.Unsetenv(resolverEnv)
	command, err := procid.Find(s.Command)
	if err != nil {
		return err
	}
	defer command.Close()
	udp, tcp, err := receiveDNS(os.NewFile(3, "command"))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		_ = command.Wait(ctx)
		cancel()
	}()
	r := running{Hello: keeper.Hello{Socket: s.Socket}}
	reach.ServeNames(ctx, udp, tcp, r.containers, s.NetworkID)
	return nil
}

// receiveDNS takes the sockets that openResolver sends.
func receiveDNS(from *os.File) (*net.UDPConn, *net.TCPListener, error) {
	conn, err := net.FileConn(from)
	from.Close()
	if err != nil {
		return nil, nil, err
	}
	defer conn.Close()
	files, err := keeper.ReadMessage(conn.(*net.UnixConn), &struct{}{})
	defer func() {
		for _, f := range files {
			f.Close()
		}
	}()
	if err != nil || len(files) != 2 {
		return nil, nil, errors.Join(err, fmt.Errorf("%d sockets came", len(files)))
	}
	udp, err := net.FilePacketConn(files[0])
	if err != nil {
		return nil, nil, err
	}
	tcp, err := net.FileListener(files[1])
	if err != nil {
		udp.Close()
		return nil, nil, err
	}
	return udp.(*net.UDPConn), tcp.(*net.TCPListener), nil
}
