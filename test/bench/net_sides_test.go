package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/kelp-engine/kelp/test/harness"
)

// insidePort is where the traffic program listens in a container: it takes
// this port and the next.
const insidePort = 5001

// side is one way to join a container and its host.
type side struct {
	// inside, outside and beside run the traffic program in the container, on
	// its host and in another container of the same network, or are nil.
	inside, outside, beside func(ctx context.Context, args ...string) *exec.Cmd
	// host is where the container finds the traffic program outside, published
	// where the outside finds that in the container, member where another
	// container does. The empty string means that it cannot.
	host, published, member string
}

// run runs the traffic program and returns what it prints.
func run(cmd *exec.Cmd) (string, error) {
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return strings.TrimSpace(string(out)), nil
}

func runFigure(cmd *exec.Cmd) (float64, error) {
	out, err := run(cmd)
	if err != nil {
		return 0, err
	}
	return strconv.ParseFloat(out, 64)
}

// cleanup is what to undo at the end, in reverse.
type cleanup []func()

func (c *cleanup) add(f func()) { *c = append(*c, f) }

func (c *cleanup) run() {
	for i := len(*c) - 1; i >= 0; i-- {
		(*c)[i]()
	}
}

// server starts a command that prints a line when it is ready and ends when
// its standard input does.
func (c *cleanup) server(cmd *exec.Cmd) (pid int, err error) {
	in, err := cmd.StdinPipe()
	if err != nil {
		return 0, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return 0, err
	}
	var stderr strings.Builder
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	c.add(func() {
		in.Close()
		stop := time.AfterFunc(5*time.Second, func() { _ = cmd.Process.Kill() })
		defer stop.Stop()
		_ = cmd.Wait()
	})
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		return 0, fmt.Errorf("%s did not start: %w: %s", strings.Join(cmd.Args, " "), err, stderr.String())
	}
	return cmd.Process.Pid, nil
}

// traffic is the traffic program on this machine.
func traffic(ctx context.Context, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, "traffic", args...)
}

// namespace is the network namespace of a process in a user namespace.
type namespace int

// run returns a command that runs in the namespace.
func (n namespace) run(ctx context.Context, name string, args ...string) *exec.Cmd {
	enter := []string{"--target", strconv.Itoa(int(n)), "--user", "--net", "--preserve-credentials", name}
	return exec.CommandContext(ctx, "nsenter", append(enter, args...)...)
}

func (n namespace) traffic(ctx context.Context, args ...string) *exec.Cmd {
	return n.run(ctx, "traffic", args...)
}

// newNamespace makes a user namespace with a network namespace.
func (c *cleanup) newNamespace() (namespace, error) {
	cmd := exec.Command("sh", "-c", "ip link set lo up && echo ready && exec cat")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
		Pdeathsig:   syscall.SIGKILL,
	}
	pid, err := c.server(cmd)
	return namespace(pid), err
}

// child makes a further network namespace in n's user namespace.
func (c *cleanup) child(n namespace) (namespace, error) {
	pid, err := c.server(n.run(context.Background(), "unshare", "--net", "sh", "-c", "ip link set lo up && echo ready && exec cat"))
	return namespace(pid), err
}

// wires are the bare kernel: "veth" a pair between two namespaces, "bridge" two
// namespaces on a bridge. Their congestion control is that of the host unless
// it is named.
func (c *cleanup) wires(ctx context.Context, congestion string) (veth, bridge *side, err error) {
	host, err := c.newNamespace()
	if err != nil {
		return nil, nil, err
	}
	var inside [3]namespace
	for i := range inside {
		if inside[i], err = c.child(host); err != nil {
			return nil, nil, err
		}
	}
	script := fmt.Sprintf(`set -e
		ip link add v0 type veth peer name eth0 netns %d
		ip addr add 10.98.0.1/24 dev v0
		for f in /proc/sys/net/bridge/bridge-nf-call-*; do [ ! -w $f ] || echo 0 >$f; done
		ip link add br0 type bridge
		ip link add v1 type veth peer name eth0 netns %d
		ip link add v2 type veth peer name eth0 netns %d
		ip link set v1 master br0
		ip link set v2 master br0
		for d in v0 v1 v2 br0; do ip link set $d up; done`, inside[0], inside[1], inside[2])
	setup := []*exec.Cmd{host.run(ctx, "sh", "-c", script)}
	for i, address := range []string{"10.98.0.2/24", "10.99.0.2/24", "10.99.0.3/24"} {
		setup = append(setup, inside[i].run(ctx, "sh", "-c", "ip addr add "+address+" dev eth0 && ip link set eth0 up"))
	}
	if congestion != "" {
		for _, n := range append(inside[:], host) {
			setup = append(setup, n.run(ctx, "sh", "-c", "echo "+congestion+" >/proc/sys/net/ipv4/tcp_congestion_control"))
		}
	}
	for _, cmd := range setup {
		if _, err := run(cmd); err != nil {
			return nil, nil, err
		}
	}
	port := strconv.Itoa(insidePort)
	for _, n := range []namespace{host, inside[0], inside[1]} {
		if _, err := c.server(n.traffic(context.Background(), "serve", port)); err != nil {
			return nil, nil, err
		}
	}
	veth = &side{inside: inside[0].traffic, outside: host.traffic, host: "10.98.0.1:" + port, published: "10.98.0.2:" + port}
	bridge = &side{beside: inside[2].traffic, member: "10.99.0.2:" + port}
	return veth, bridge, nil
}

// freePorts finds a port that is free on the host together with the next.
func freePorts() (int, error) {
	for range 50 {
		l, err := net.Listen("tcp", ":0")
		if err != nil {
			return 0, err
		}
		port := l.Addr().(*net.TCPAddr).Port
		next, err := net.Listen("tcp", fmt.Sprintf(":%d", port+1))
		l.Close()
		if err == nil {
			return port, next.Close()
		}
	}
	return 0, errors.New("no two free ports in a row")
}

// hostAddress is an address of this machine that is not its loopback's.
func hostAddress() (string, error) {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return "", err
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.IsGlobalUnicast() && n.IP.To4() != nil {
			return n.IP.String(), nil
		}
	}
	return "", errors.New("this machine has no IPv4 address but loopback's")
}

// at makes HOST:PORT.
func at(host string, port int) string { return net.JoinHostPort(host, strconv.Itoa(port)) }

// kelpSide is two containers on a network of kelp's, one with published ports.
func (c *cleanup) kelpSide(ctx context.Context, k *harness.Kelp, address string, outside int) (*side, error) {
	program, err := exec.LookPath("traffic")
	if err != nil {
		return nil, err
	}
	port, err := freePorts()
	if err != nil {
		return nil, err
	}
	container := func(name string, more ...string) error {
		args := append([]string{"run", "-d", "-i", "--name", name, "--network", "bench", "-v", program + ":/bin/traffic:ro"}, more...)
		_, err := k.Docker(ctx, append(args, "busybox", "traffic", "serve", strconv.Itoa(insidePort))...)
		return err
	}
	_, err = k.Docker(ctx, "network", "create", "bench")
	err = errors.Join(err, container("beside"), container("inside",
		"-p", fmt.Sprintf("%d:%d", port, insidePort), "-p", fmt.Sprintf("%d:%d", port+1, insidePort+1), "-p", fmt.Sprintf("%d:%d/udp", port, insidePort)))
	if err != nil {
		return nil, err
	}
	c.add(func() { _, _ = k.Docker(context.Background(), "rm", "-f", "inside", "beside") })
	member, err := k.Docker(ctx, "inspect", "-f", "{{.NetworkSettings.Networks.bench.IPAddress}}", "inside")
	if err != nil {
		return nil, err
	}
	in := func(name string) func(context.Context, ...string) *exec.Cmd {
		return func(ctx context.Context, args ...string) *exec.Cmd {
			return k.Command(ctx, "docker", append([]string{"exec", name, "traffic"}, args...)...)
		}
	}
	return &side{
		inside: in("inside"), beside: in("beside"), outside: traffic,
		host: at(address, outside), published: at(address, port), member: at(member, insidePort),
	}, nil
}

// pastaSide is a namespace that pasta joins to the host.
func (c *cleanup) pastaSide(address string, outside int) (*side, error) {
	port, err := freePorts()
	if err != nil {
		return nil, err
	}
	forward := fmt.Sprintf("%d:%d,%d:%d", port, insidePort, port+1, insidePort+1)
	cmd := exec.Command(
		"pasta", "--config-net", "--foreground", "--quiet", "--no-dhcp", "--no-dhcpv6", "--no-ra", "--ipv4-only",
		"-a", "10.97.0.2", "-n", "255.255.255.0", "-g", "10.97.0.1", "-t", forward, "-u", fmt.Sprintf("%d:%d", port, insidePort),
		"--", "sh", "-c", fmt.Sprintf("echo $$; exec traffic serve %d", insidePort),
	)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if _, err := c.server(cmd); err != nil {
		return nil, err
	}
	inside, err := namespaceOf(fmt.Sprintf("traffic\x00serve\x00%d\x00", insidePort), cmd.Process.Pid)
	if err != nil {
		return nil, err
	}
	return &side{
		inside: inside.traffic, outside: traffic,
		host: at("10.97.0.1", outside), published: at(address, port),
	}, nil
}

// namespaceOf finds the process with a command line that descends from another.
func namespaceOf(command string, ancestor int) (found namespace, err error) {
	err = harness.Until(context.Background(), 5*time.Second, "the peer's process runs", func() error {
		files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
		for _, f := range files {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(f)))
			if b, _ := os.ReadFile(f); string(b) == command && descends(pid, ancestor) {
				found = namespace(pid)
				return nil
			}
		}
		return errors.New("not yet")
	})
	return found, err
}

func descends(pid, ancestor int) bool {
	for pid > 1 && pid != ancestor {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			return false
		}
		fields := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
		pid, _ = strconv.Atoi(fields[1])
	}
	return pid == ancestor
}

// slirpSide is a namespace that slirp4netns joins to the host.
func (c *cleanup) slirpSide(dir string, outside int) (*side, error) {
	inside, err := c.newNamespace()
	if err != nil {
		return nil, err
	}
	ready, wrote, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer ready.Close()
	socket := filepath.Join(dir, "slirp.sock")
	cmd := exec.Command("slirp4netns", "--configure", "--mtu=65520", "--ready-fd=3", "--api-socket="+socket, strconv.Itoa(int(inside)), "tap0")
	cmd.ExtraFiles = []*os.File{wrote}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	err = cmd.Start()
	wrote.Close()
	if err != nil {
		return nil, err
	}
	c.add(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	if _, err := io.ReadFull(ready, make([]byte, 1)); err != nil {
		return nil, fmt.Errorf("slirp4netns did not start: %w", err)
	}
	if _, err := c.server(inside.traffic(context.Background(), "serve", strconv.Itoa(insidePort))); err != nil {
		return nil, err
	}
	port, err := freePorts()
	if err != nil {
		return nil, err
	}
	for _, f := range []struct {
		proto string
		n     int
	}{{"tcp", 0}, {"tcp", 1}, {"udp", 0}} {
		if err := slirpForward(socket, f.proto, port+f.n, insidePort+f.n); err != nil {
			return nil, err
		}
	}
	return &side{
		inside: inside.traffic, outside: traffic,
		host: at("10.0.2.2", outside), published: at("127.0.0.1", port),
	}, nil
}

func slirpForward(socket, proto string, host, guest int) error {
	conn, err := net.Dial("unix", socket)
	if err != nil {
		return err
	}
	defer conn.Close()
	request := object{"execute": "add_hostfwd", "arguments": object{
		"proto": proto, "host_addr": "0.0.0.0", "host_port": host, "guest_addr": "10.0.2.100", "guest_port": guest,
	}}
	if err := json.NewEncoder(conn).Encode(request); err != nil {
		return err
	}
	var answer struct{ Error *struct{ Desc string } }
	if err := json.NewDecoder(conn).Decode(&answer); err != nil {
		return err
	}
	if answer.Error != nil {
		return errors.New(answer.Error.Desc)
	}
	return nil
}
