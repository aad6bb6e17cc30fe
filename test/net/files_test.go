package net

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Connections that the keeper has no open files for are refused, cleanly, and
// only while that is so; what is open and all else goes on.
func TestFewOpenFiles(t *testing.T) {
	k := start(t)
	host := hostEcho(t)
	k.probe("srv", "-p", "127.0.0.1::7", "--", "echo", "7")
	k.says("srv", "ready")
	k.probe("chat", "--", "chat", "tcp", host, "udp", host)
	k.says("chat", "ready")
	published := k.port("srv", "7/tcp")
	first := k.dial("tcp", published)
	k.must(first.exchange("line"))
	s, err := k.Status(t.Context())
	k.must(err)
	var limit unix.Rlimit
	k.must(unix.Prlimit(s.KeeperPID, unix.RLIMIT_NOFILE, nil, &limit))
	limit.Cur = 400
	k.must(unix.Prlimit(s.KeeperPID, unix.RLIMIT_NOFILE, &limit, nil))

	var open []net.Conn
	refused := 0
	for range 200 {
		c, err := dialed(published)
		if err != nil {
			refused++
			continue
		}
		open = append(open, c)
	}
	if len(open) < 20 || refused < 20 {
		t.Errorf("%d connections were carried, %d refused", len(open), refused)
	}
	k.must(first.exchange("line"))
	k.docker("run", "--rm", "busybox", "true")
	k.docker("exec", "srv", "true")
	k.running("srv", "chat")
	if !strings.Contains(k.Logs(), "too many for kelp's limit of open files") {
		t.Error("the log does not say why connections are refused")
	}
	for _, c := range open {
		c.Close()
	}
	k.eventually("a new connection", func(context.Context) error {
		c, err := dialed(published)
		if err == nil {
			c.Close()
		}
		return err
	})
	// The same from the inside.
	k.probe("hold", "--", "hold", "tcp", host, "200")
	k.says("hold", "holding")
	var held int
	_, err = fmt.Sscanf(k.docker("logs", "hold"), "holding %d", &held)
	k.must(err)
	if held < 20 || held > 150 {
		t.Errorf("a container holds %d connections", held)
	}
	k.docker("rm", "-f", "hold")
	k.eventually("a new connection of a container", func(ctx context.Context) error {
		_, err := k.Docker(ctx, "exec", "srv", "/probe", "many", host, "1")
		return err
	})
	k.must(k.CheckClean(t.Context()))
	k.must(k.Stop(t.Context()))
}

// dialed is a connection over which a line came back.
func dialed(address string) (net.Conn, error) {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	c := &chatter{conn, bufio.NewReader(conn)}
	if err := c.exchange("line"); err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}
