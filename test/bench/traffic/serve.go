package main

import (
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"runtime"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// What a client asks for with the first byte of a connection.
const (
	askSink   = 's' // reads all and answers how much it was
	askSource = 'r' // sends for the nanoseconds that follow
	askEcho   = 'e'
	askSeen   = 'a' // tells the client's address
	askCount  = 'u' // tells how many datagrams of a run came
)

const chunk = 256 << 10

// greeters is how many threads accept connections that want one byte.
const greeters = 4

// received counts the datagrams of the latest run.
var received struct{ run, count atomic.Uint64 }

// serve answers requests on a port, greets on the next, and counts datagrams.
func serve(port uint16) error {
	requests, err := listen(port)
	if err != nil {
		return err
	}
	greet, err := listen(port + 1)
	if err != nil {
		return err
	}
	udp, err := bound(unix.SOCK_DGRAM, port)
	if err != nil {
		return err
	}
	_ = unix.SetsockoptInt(int(udp), unix.SOL_SOCKET, unix.SO_RCVBUF, 4<<20)
	for range greeters {
		go greetAll(greet)
	}
	go countDatagrams(udp)
	go func() {
		for {
			c, err := requests.accept()
			if err != nil {
				fatal(err)
			}
			go answer(c)
		}
	}()
	fmt.Println("ready")
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

func fatal(err error) {
	fmt.Fprintln(os.Stderr, "traffic:", err)
	os.Exit(1)
}

func greetAll(l socket) {
	runtime.LockOSThread()
	for {
		c, err := l.accept()
		if err != nil {
			fatal(err)
		}
		_, _ = c.Write([]byte{'.'})
		c.Close()
	}
}

func countDatagrams(s socket) {
	runtime.LockOSThread()
	buf := make([]byte, 2048)
	for {
		n, err := s.Read(buf)
		if err != nil || n < 8 {
			continue
		}
		if run := binary.BigEndian.Uint64(buf); received.run.Load() != run {
			received.run.Store(run)
			received.count.Store(0)
		}
		received.count.Add(1)
	}
}

func answer(c socket) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer c.Close()
	var ask [1]byte
	if _, err := io.ReadFull(c, ask[:]); err != nil {
		return
	}
	switch ask[0] {
	case askSink:
		_ = c.writeNumber(discard(c))
	case askSource:
		if ns, err := c.readNumber(); err == nil {
			pour(c, time.Duration(ns))
		}
	case askEcho:
		c.noDelay()
		for {
			if _, err := io.ReadFull(c, ask[:]); err != nil {
				return
			}
			if _, err := c.Write(ask[:]); err != nil {
				return
			}
		}
	case askSeen:
		if sa, err := unix.Getpeername(int(c)); err == nil {
			fmt.Fprint(c, address(sa))
		}
	case askCount:
		if run, err := c.readNumber(); err == nil && run == received.run.Load() {
			_ = c.writeNumber(received.count.Load())
		}
	}
}

// discard reads to the end and returns how much came.
func discard(c socket) (total uint64) {
	buf := make([]byte, chunk)
	for {
		n, err := c.Read(buf)
		if err != nil {
			return total
		}
		total += uint64(n)
	}
}

// pour sends for a time.
func pour(c socket, d time.Duration) {
	buf := make([]byte, chunk)
	for end := time.Now().Add(d); time.Now().Before(end); {
		if _, err := c.Write(buf); err != nil {
			return
		}
	}
}
