// Command traffic makes and receives the traffic of the network benchmarks. It
// uses blocking system calls on threads, as iperf3 does: what it costs itself
// is the least that can be had, and the same on every side. Go's own care for
// threads that block would cost 15 µs of processor time for each connection at
// both ends, hence raw system calls, a processor for each of them and no
// collection of garbage, which would wait for them.
//
//	traffic serve PORT              until standard input ends
//	traffic stream|connect|ping|udp|seen [flags] HOST:PORT
//
// A client prints one figure.
package main

import (
	"flag"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"time"
)

// maxThreads is more than block at a time.
const maxThreads = 128

func main() {
	debug.SetGCPercent(-1)
	runtime.GOMAXPROCS(maxThreads)
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "traffic:", err)
		os.Exit(1)
	}
}

// job is what a client is asked to do.
type job struct {
	to      netip.AddrPort
	time    time.Duration
	width   int
	reverse bool
	rate    float64
}

var clients = map[string]func(job) (string, error){
	"stream":  stream,
	"connect": connect,
	"ping":    ping,
	"udp":     datagrams,
	"seen":    seen,
}

func run(args []string) error {
	if len(args) == 2 && args[0] == "serve" {
		port, err := strconv.ParseUint(args[1], 10, 16)
		if err != nil {
			return err
		}
		return serve(uint16(port))
	}
	if len(args) < 2 || clients[args[0]] == nil {
		return fmt.Errorf("usage: traffic serve PORT | traffic stream|connect|ping|udp|seen [flags] HOST:PORT")
	}
	var j job
	fs := flag.NewFlagSet(args[0], flag.ContinueOnError)
	fs.DurationVar(&j.time, "time", time.Second, "how `long`")
	fs.IntVar(&j.width, "width", 1, "`streams` or connections at a time")
	fs.BoolVar(&j.reverse, "reverse", false, "from the server to the client")
	fs.Float64Var(&j.rate, "rate", 1e9, "`bits` per second of datagrams")
	if err := fs.Parse(args[1:]); err != nil {
		return err
	}
	var err error
	if j.to, err = netip.ParseAddrPort(fs.Arg(0)); err != nil {
		return err
	}
	out, err := clients[args[0]](j)
	if err == nil {
		fmt.Println(out)
	}
	return err
}
