package netstack

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kelp-engine/kelp/netstack/forward"
	"github.com/kelp-engine/kelp/netstack/link"
	"github.com/kelp-engine/kelp/test/nstest"
)

// bench is a network with two containers and a bare way between them.
type bench struct {
	a, b     *Sandbox
	listenA  *net.TCPListener // in a
	listener net.Listener     // on the host
}

func newBench(b *testing.B) *bench {
	n := openNetwork(b, "bench", 20, nil)
	x := &bench{a: openSandbox(b, SandboxConfig{}), b: openSandbox(b, SandboxConfig{})}
	connect(b, x.a, n, 2)
	connect(b, x.b, n, 3)
	var err error
	x.listenA, err = x.a.ns.Listen("tcp4", &net.TCPAddr{IP: net.IPv4zero, Port: 5001})
	check(b, err)
	x.listener, err = net.Listen("tcp4", nstest.HostIPv4+":0")
	check(b, err)
	b.Cleanup(func() { x.listenA.Close(); x.listener.Close() })
	return x
}

const benchChunk = 128 << 10

// stream sends b.N chunks over as many connections as asked for, in the
// direction of the dial or against it.
func stream(b *testing.B, streams int, reverse bool, dial func() (net.Conn, error), l net.Listener) {
	var wg sync.WaitGroup
	ends := make([][2]net.Conn, streams)
	for i := range ends {
		accepted := make(chan net.Conn, 1)
		go func() {
			c, err := l.Accept()
			if err == nil {
				accepted <- c
			}
		}()
		c, err := dial()
		check(b, err)
		ends[i] = [2]net.Conn{c, <-accepted}
		if reverse {
			ends[i][0], ends[i][1] = ends[i][1], ends[i][0]
		}
		defer c.Close()
	}
	b.SetBytes(benchChunk)
	b.ResetTimer()
	for _, e := range ends {
		wg.Go(func() {
			buf := make([]byte, benchChunk)
			for range b.N / streams {
				if _, err := e[0].Write(buf); err != nil {
					b.Error(err)
					break
				}
			}
			e[0].(*net.TCPConn).CloseWrite()
		})
		wg.Go(func() { _, _ = io.Copy(io.Discard, struct{ io.Reader }{e[1]}) })
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)*benchChunk*8/float64(b.Elapsed().Nanoseconds()), "Gbit/s")
}

func BenchmarkStreams(b *testing.B) {
	x := newBench(b)
	bound, err := x.a.Publish([]Port{{Proto: "tcp", ContainerPort: 5001}})
	check(b, err)
	stack := newStackBench(b)
	for _, c := range []struct {
		name string
		dial func() (net.Conn, error)
		l    net.Listener
	}{
		{"bridge", func() (net.Conn, error) { return dialFrom(x.b, "172.20.0.2:5001") }, x.listenA},
		{"egress", func() (net.Conn, error) { return dialFrom(x.b, x.listener.Addr().String()) }, x.listener},
		{"egress-in-stack", func() (net.Conn, error) { return dialFrom(stack, x.listener.Addr().String()) }, x.listener},
		{"published", func() (net.Conn, error) {
			return net.Dial("tcp", net.JoinHostPort(nstest.HostIPv4, strconv.Itoa(int(bound[0].HostPort))))
		}, x.listenA},
		{"loopback", func() (net.Conn, error) { return net.Dial("tcp", x.listener.Addr().String()) }, x.listener},
	} {
		for _, streams := range []int{1, 4} {
			for _, reverse := range []bool{false, true} {
				b.Run(fmt.Sprintf("%s/streams=%d/reverse=%v", c.name, streams, reverse), func(b *testing.B) {
					stream(b, streams, reverse, c.dial, c.l)
				})
			}
		}
	}
}

// newStackBench is a container whose connections stay in the stack.
func newStackBench(b *testing.B) *Sandbox {
	n := openNetwork(b, "stack", 21, func(c *NetworkConfig) { c.Internal = true })
	n.cfg.Internal = false
	var err error
	n.uplink, err = n.bridge.AddUplink()
	check(b, err)
	n.egress, err = forward.NewEgress(forward.EgressConfig{Bridge: n.bridge, Uplink: n.uplink, IPv6: true, StackOnly: true, Log: slog.New(slog.DiscardHandler)})
	check(b, err)
	s := openSandbox(b, SandboxConfig{})
	connect(b, s, n, 2)
	return s
}

// BenchmarkConnections opens a connection, gets one byte and closes it.
func BenchmarkConnections(b *testing.B) {
	x := newBench(b)
	bound, err := x.a.Publish([]Port{{Proto: "tcp", ContainerPort: 5001}})
	check(b, err)
	for _, l := range []net.Listener{x.listenA, x.listener} {
		go func() {
			for {
				c, err := l.Accept()
				if errors.Is(err, net.ErrClosed) {
					return
				}
				if err == nil {
					c.Write([]byte{1})
					c.Close()
				}
			}
		}()
	}
	published := net.JoinHostPort(nstest.HostIPv4, strconv.Itoa(int(bound[0].HostPort)))
	for _, c := range []struct {
		name string
		dial func() (net.Conn, error)
	}{
		{"bridge", func() (net.Conn, error) { return dialFrom(x.b, "172.20.0.2:5001") }},
		{"egress", func() (net.Conn, error) { return dialFrom(x.b, x.listener.Addr().String()) }},
		{"published", func() (net.Conn, error) { return net.Dial("tcp", published) }},
		{"loopback", func() (net.Conn, error) { return net.Dial("tcp", x.listener.Addr().String()) }},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.SetParallelism(8)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					conn, err := c.dial()
					if err != nil {
						b.Error(err)
						return
					}
					conn.Read(make([]byte, 1))
					conn.(*net.TCPConn).SetLinger(0)
					conn.Close()
				}
			})
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "conns/s")
		})
	}
}

// BenchmarkRoundTrip sends one byte there and back.
func BenchmarkRoundTrip(b *testing.B) {
	x := newBench(b)
	go echo(x.listener)
	go echo(x.listenA)
	bound, err := x.a.Publish([]Port{{Proto: "tcp", ContainerPort: 5001}})
	check(b, err)
	for _, c := range []struct {
		name string
		dial func() (net.Conn, error)
	}{
		{"bridge", func() (net.Conn, error) { return dialFrom(x.b, "172.20.0.2:5001") }},
		{"egress", func() (net.Conn, error) { return dialFrom(x.b, x.listener.Addr().String()) }},
		{"published", func() (net.Conn, error) {
			return net.Dial("tcp", net.JoinHostPort(nstest.HostIPv4, strconv.Itoa(int(bound[0].HostPort))))
		}},
	} {
		b.Run(c.name, func(b *testing.B) {
			conn, err := c.dial()
			check(b, err)
			defer conn.Close()
			one := make([]byte, 1)
			for b.Loop() {
				conn.Write(one)
				conn.Read(one)
			}
		})
	}
}

func echo(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go io.Copy(struct{ io.Writer }{c}, struct{ io.Reader }{c})
	}
}

// BenchmarkUDP sends datagrams of 1,400 bytes at 1 Gbit/s and counts the loss.
func BenchmarkUDP(b *testing.B) {
	x := newBench(b)
	host, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.ParseIP(nstest.HostIPv4)})
	check(b, err)
	inside, err := x.a.ns.ListenPacket("udp4", &net.UDPAddr{Port: 5002})
	check(b, err)
	b.Run("bridge", func(b *testing.B) { sendUDP(b, x.b, inside, "172.20.0.2:5002") })
	b.Run("egress", func(b *testing.B) { sendUDP(b, x.b, host, host.LocalAddr().String()) })
}

func sendUDP(b *testing.B, from *Sandbox, to *net.UDPConn, addr string) {
	var got atomic.Int64
	to.SetReadBuffer(8 << 20)
	to.SetReadDeadline(time.Time{})
	var reader sync.WaitGroup
	reader.Go(func() {
		buf := make([]byte, 2000)
		for {
			if _, _, err := to.ReadFromUDPAddrPort(buf); err != nil {
				return
			}
			got.Add(1)
		}
	})
	c, err := from.ns.DialUDP(link.Local{}, netip.MustParseAddrPort(addr))
	check(b, err)
	defer c.Close()
	const size, perSecond = 1400, 1e9 / 8 / 1400
	payload := make([]byte, size)
	c.Write(payload)
	time.Sleep(100 * time.Millisecond)
	got.Store(0)
	b.SetBytes(size)
	b.ResetTimer()
	start := time.Now()
	for i := range b.N {
		if i%16 == 0 {
			time.Sleep(time.Until(start.Add(time.Duration(float64(i) / perSecond * 1e9))))
		}
		c.Write(payload)
	}
	b.StopTimer()
	time.Sleep(200 * time.Millisecond)
	to.SetReadDeadline(time.Unix(1, 0))
	reader.Wait()
	b.ReportMetric(100*(1-float64(got.Load())/float64(b.N)), "%loss")
}
