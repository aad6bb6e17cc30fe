package net

import (
	"fmt"
	"testing"
	"time"

	"github.com/kelp-engine/kelp/test/harness"
)

// Work on networks leaves nothing, neither in the keeper nor in the engine.
func TestNothingLeaks(t *testing.T) {
	k := start(t)
	host := hostEcho(t)
	k.session(host) // what is made once stays
	before := k.census()
	for range 3 {
		k.session(host)
	}
	k.must(harness.Until(t.Context(), time.Minute, "nothing is left of the work", func() error {
		return k.census().Grown(before)
	}))
	t.Log(before)
	k.must(k.CheckClean(t.Context()))
	k.must(k.Stop(t.Context()))
}

func (k *kelp) census() harness.Census {
	k.t.Helper()
	c, err := harness.TakeCensus(k.t.Context(), k.Kelp, harness.ProgramPath("probe"), "count")
	k.must(err)
	return c
}

// session is work of all kinds on networks, and its end.
func (k *kelp) session(host string) {
	k.t.Helper()
	for _, n := range []string{"red", "blue"} {
		k.docker("network", "create", "--ipv6", n)
	}
	k.docker("network", "create", "--internal", "inner")
	k.probe("srv", "--network", "red", "-p", "127.0.0.1::7", "-p", "127.0.0.1::7/udp", "--", "echo", "7")
	k.says("srv", "ready")
	k.docker("network", "connect", "blue", "srv")
	k.docker("network", "connect", "inner", "srv")
	for i, network := range []string{"red", "blue"} {
		name := fmt.Sprint("cli", i)
		k.probe(name, "--network", network, "--", "chat", "tcp", "srv:7", "udp", "srv:7", "tcp", host, "udp", host)
		k.says(name, "ready")
	}
	tcp, udp := k.dial("tcp", k.port("srv", "7/tcp")), k.dial("udp", k.port("srv", "7/udp"))
	k.must(tcp.exchange("line"))
	k.must(udp.exchange("line"))
	k.docker("network", "disconnect", "red", "srv")
	k.docker("exec", "cli1", "/probe", "many", "srv:7", "50")
	if _, err := k.Docker(k.t.Context(), "run", "--rm", "--network", "nowhere", "busybox", "true"); err == nil {
		k.t.Error("a container runs on a network that is not there")
	}
	if _, err := k.Docker(k.t.Context(), "run", "--rm", "--network", "red", "-p", k.port("srv", "7/tcp")+":9", "busybox", "true"); err == nil {
		k.t.Error("a port is published twice")
	}
	k.docker("kill", "srv")
	k.docker("rm", "-f", "srv", "cli0", "cli1")
	tcp.Close()
	udp.Close()
	k.docker("network", "rm", "red")
	k.docker("network", "prune", "-f")
}
