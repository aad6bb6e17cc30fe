package apiserver

import (
	"io"
	"net"
	"testing"
)

// TestNoPort has a listener on a port, as a socket unit may hand over, turn
// everybody away.
func TestNoPort(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	accepted := make(chan error, 1)
	go func() {
		_, err := ownersOnly{l}.Accept()
		accepted <- err
	}()
	c, err := net.Dial("tcp4", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("a client on a port gets %v", err)
	}
	l.Close()
	if err := <-accepted; err == nil {
		t.Error("a client on a port is let in")
	}
}
