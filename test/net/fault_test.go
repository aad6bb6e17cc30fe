package net

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/kelp-engine/kelp/test/harness"
)

// Somebody enters the networks' namespaces and removes all that holds them
// together.
func TestRemovedDevicesAreMadeAgain(t *testing.T) {
	k := start(t)
	host := hostEcho(t)
	k.docker("network", "create", "reef")
	k.probe("srv", "--network", "reef", "-p", "127.0.0.1::7", "--", "echo", "7")
	k.says("srv", "ready")
	k.probe("chat", "--network", "reef", "--", "chat", "tcp", "srv:7", "tcp", host, "udp", host)
	k.says("chat", "ready")
	s, err := k.Status(t.Context())
	k.must(err)
	out, err := harness.InNamespaces(t.Context(), s.KeeperPID, harness.ProgramPath("probe"), "cut", "br0", "up0")
	k.must(err)
	if all := strings.Join(out, ""); !strings.Contains(all, "cut br0") || !strings.Contains(all, "cut up0") {
		t.Fatalf("nothing was removed: %q", out)
	}
	k.eventually("a new connection to the host", func(ctx context.Context) error {
		_, err := k.Docker(ctx, "exec", "chat", "/probe", "many", host, "3")
		return err
	})
	k.eventually("a new connection to the other container", func(ctx context.Context) error {
		_, err := k.Docker(ctx, "exec", "chat", "/probe", "many", "srv:7", "3")
		return err
	})
	k.must(k.dial("tcp", k.port("srv", "7/tcp")).exchange("line"))
	k.running("srv", "chat")
	if logs := k.Logs(); !strings.Contains(logs, "its bridge was removed") || !strings.Contains(logs, "its uplink was removed") {
		t.Error("the log does not tell what happened")
	}
	k.must(k.CheckClean(t.Context()))
	k.must(k.Stop(t.Context()))
}

// eventually waits for what must work within a while.
func (k *kelp) eventually(what string, try func(ctx context.Context) error) {
	k.t.Helper()
	k.must(harness.Until(k.t.Context(), time.Minute, what, func() error { return try(k.t.Context()) }))
}
