// Package sdnotify tells the service manager, if there is one, how kelp is, as
// sd_notify(3) does.
//
// It must not decide anything: a manager that cannot be told is logged.
package sdnotify

import (
	"log/slog"
	"net"
	"os"
	"strings"
)

// States that a service manager knows.
const (
	Ready    = "READY=1"
	Stopping = "STOPPING=1"
)

// Manager is the service manager. The zero one is nobody.
type Manager struct{ socket string }

// Take takes the service manager's socket out of the environment, so that
// nobody else speaks to it.
func Take() Manager {
	defer os.Unsetenv("NOTIFY_SOCKET")
	return Manager{os.Getenv("NOTIFY_SOCKET")}
}

// Tell tells the manager, in one message.
func (n Manager) Tell(state ...string) {
	if n.socket == "" {
		return
	}
	// A name that begins with @ is an abstract socket, also for package net.
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: n.socket, Net: "unixgram"})
	if err == nil {
		defer conn.Close()
		_, err = conn.Write([]byte(strings.Join(state, "\n")))
	}
	if err != nil {
		slog.Warn("cannot tell the service manager", "state", state, "error", err)
	}
}
