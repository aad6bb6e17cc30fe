package net

import (
	"context"
	"net"
	"slices"
	"strings"
	"testing"
	"time"
)

// maxKeeper is what a keeper may grow by while containers do their worst.
const maxKeeper = 160 << 20

// A hostile container neither fills the keeper nor starves those beside it.
func TestHostileTraffic(t *testing.T) {
	k := start(t)
	host := hostEcho(t)
	hostIP, _, err := net.SplitHostPort(host)
	k.must(err)
	k.docker("network", "create", "reef")
	k.docker("network", "create", "bay")
	k.probe("srv", "--network", "reef", "-p", "127.0.0.1::7", "--", "echo", "7")
	k.says("srv", "ready")
	for name, network := range map[string]string{"beside": "reef", "apart": "bay"} {
		k.probe(name, "--network", network, "--", "chat", "tcp", host, "udp", host)
		k.says(name, "ready")
	}
	k.probe("evil", "--network", "reef", "--ulimit", "nofile=20000:20000", "--", "echo", "9")
	k.says("evil", "ready")
	gateway := k.docker("network", "inspect", "-f", "{{(index .IPAM.Config 0).Gateway}}", "reef")
	k.docker("exec", "evil", "ping", "-c1", "-W1", gateway)
	fields := strings.Fields(k.docker("exec", "evil", "ip", "neigh", "show", gateway))
	mac := fields[slices.Index(fields, "lladdr")+1]

	before := k.keeperSize()
	for _, attack := range []struct {
		name string
		args []string
	}{
		{"noise", []string{"raw", mac, "2s"}},
		{"SYNs to one port", []string{"syn", host, "2s"}},
		{"SYNs to all ports", []string{"syn", hostIP + ":0", "2s"}},
		{"SYNs to nobody", []string{"syn", "198.51.100.9:80", "2s"}},
		{"half-open connections", []string{"half", host, "10000", "2s"}},
		{"half-open connections to nobody", []string{"half", "198.51.100.9:80", "10000", "2s"}},
		{"datagrams to all ports", []string{"ports", hostIP}},
		{"names", []string{"dns", "2s"}},
	} {
		t.Run(attack.name, func(t *testing.T) {
			k := &kelp{k.Kelp, t}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			ended := make(chan error, 1)
			go func() {
				_, err := k.Docker(ctx, append([]string{"exec", "evil", "/probe"}, attack.args...)...)
				ended <- err
			}()
			time.Sleep(300 * time.Millisecond)
			for _, victim := range []string{"beside", "apart"} {
				began := time.Now()
				_, err := k.Docker(ctx, "exec", victim, "/probe", "many", host, "5")
				t.Logf("%s made 5 connections in %v", victim, time.Since(began))
				if err != nil {
					t.Errorf("%s cannot connect: %v", victim, err)
				}
			}
			k.must(k.dial("tcp", k.port("srv", "7/tcp")).exchange("line"))
			k.must(<-ended)
			now := k.keeperSize()
			t.Logf("the keeper has %+v, before %+v", now, before)
			if now.memory > before.memory+maxKeeper {
				t.Errorf("the keeper grew to %d MiB", now.memory>>20)
			}
			k.running("srv", "beside", "apart", "evil")
		})
	}
	k.must(k.CheckClean(t.Context()))
	k.must(k.Stop(t.Context()))
}
