package server

import (
	"log/slog"
	"net"
	"os"
	"strings"
)

// notifier tells the service manager how kelp is, as sd_notify(3) does. The
// zero one tells nobody.
type notifier struct{ socket string }

// newNotifier takes the service manager's socket out of the environment, so
// that nobody else speaks to it.
func newNotifier() notifier {
	defer os.Unsetenv("NOTIFY_SOCKET")
	return notifier{os.Getenv("NOTIFY_SOCKET")}
}

func (n notifier) tell(state ...string) {
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
