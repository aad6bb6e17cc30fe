package net

import (
	"fmt"
	"testing"
	"time"
)

// now is the time as docker's clients write it.
func now() string {
	t := time.Now()
	return fmt.Sprintf("%d.%09d", t.Unix(), t.Nanosecond())
}

// Connections, flows and names of containers, and of the host's clients, do
// not notice the engine's death.
func TestTheEnginesDeathDisturbsNoTraffic(t *testing.T) {
	k := start(t)
	host := hostEcho(t)
	k.docker("network", "create", "reef")
	k.probe("srv", "--network", "reef", "-p", "127.0.0.1::7", "-p", "127.0.0.1::7/udp", "--", "echo", "7")
	k.says("srv", "ready")
	k.probe("chat", "--network", "reef", "--", "chat", "tcp", "srv:7", "udp", "srv:7", "tcp", host, "udp", host)
	k.probe("names", "--network", "reef", "--", "names", "srv")
	k.says("chat", "ready")
	k.says("names", "ready")
	tcp, udp := k.dial("tcp", k.port("srv", "7/tcp")), k.dial("udp", k.port("srv", "7/udp"))
	since := now()
	for i := range 3 {
		for j := range 10 {
			line := fmt.Sprintf("line %d of life %d", j, i)
			k.must(tcp.exchange(line))
			k.must(udp.exchange(line))
		}
		k.must(k.KillEngine(t.Context()))
	}
	k.must(tcp.exchange("once more"))
	k.must(udp.exchange("once more"))
	k.running("srv", "chat", "names")
	if out := k.docker("events", "--since", since, "--until", now(), "--filter", "type=network"); out != "" {
		t.Errorf("events of networks on which nothing has happened: %s", out)
	}
	// What began before the death can be ended after it.
	k.docker("network", "disconnect", "reef", "names")
	k.docker("network", "connect", "reef", "names")
	k.docker("rm", "-f", "srv", "chat", "names")
	k.docker("network", "rm", "reef")
	k.must(k.CheckClean(t.Context()))
	k.must(k.Stop(t.Context()))
}
