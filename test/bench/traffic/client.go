package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// ask connects and makes a request.
func (j job) ask(what byte) (socket, error) {
	c, err := dial(unix.SOCK_STREAM, j.to)
	if err != nil {
		return c, err
	}
	_, err = c.Write([]byte{what})
	return c, err
}

// each runs f on as many threads as the job is wide.
func (j job) each(f func() error) error {
	var wg sync.WaitGroup
	errs := make([]error, j.width)
	for i := range errs {
		wg.Go(func() {
			runtime.LockOSThread()
			errs[i] = f()
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// stream measures Gbit/s, of what has arrived.
func stream(j job) (string, error) {
	var total atomic.Uint64
	begun := time.Now()
	err := j.each(func() error {
		n, err := j.oneStream()
		if err == nil {
			total.Add(n)
		}
		return err
	})
	return fmt.Sprintf("%.3f", float64(total.Load())*8/float64(time.Since(begun).Nanoseconds())), err
}

func (j job) oneStream() (uint64, error) {
	if j.reverse {
		c, err := j.ask(askSource)
		if err != nil {
			return 0, err
		}
		defer c.Close()
		if err := c.writeNumber(uint64(j.time)); err != nil {
			return 0, err
		}
		return discard(c), nil
	}
	c, err := j.ask(askSink)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	pour(c, j.time)
	c.endWrites()
	return c.readNumber()
}

// connect measures connections per second: each is opened, brings one byte and
// is closed by the server first.
func connect(j job) (string, error) {
	var total atomic.Uint64
	begun := time.Now()
	greet := netip.AddrPortFrom(j.to.Addr(), j.to.Port()+1)
	err := j.each(func() error {
		var buf [16]byte
		for time.Since(begun) < j.time {
			c, err := dial(unix.SOCK_STREAM, greet)
			if err != nil {
				return err
			}
			n, err := io.ReadFull(c, buf[:])
			c.Close()
			if err != io.ErrUnexpectedEOF {
				return fmt.Errorf("a connection did not end: %w", err)
			}
			if n != 1 {
				return fmt.Errorf("a connection brought %d bytes instead of one", n)
			}
			total.Add(1)
		}
		return nil
	})
	return fmt.Sprintf("%.0f", float64(total.Load())/time.Since(begun).Seconds()), err
}

// ping measures the median round trip of one byte in microseconds.
func ping(j job) (string, error) {
	c, err := j.ask(askEcho)
	if err != nil {
		return "", err
	}
	defer c.Close()
	runtime.LockOSThread()
	c.noDelay()
	var took []time.Duration
	var b [1]byte
	for begun := time.Now(); time.Since(begun) < j.time; {
		sent := time.Now()
		if _, err := c.Write(b[:]); err != nil {
			return "", err
		}
		if _, err := io.ReadFull(c, b[:]); err != nil {
			return "", err
		}
		took = append(took, time.Since(sent))
	}
	slices.Sort(took)
	return fmt.Sprintf("%.2f", float64(took[len(took)/2].Nanoseconds())/1000), nil
}

const (
	datagramSize  = 1400
	datagramBurst = 16
)

// datagrams sends at a rate and measures the percentage that was lost.
func datagrams(j job) (string, error) {
	s, err := dial(unix.SOCK_DGRAM, j.to)
	if err != nil {
		return "", err
	}
	defer s.Close()
	run := uint64(time.Now().UnixNano())
	payload := make([]byte, datagramSize)
	binary.BigEndian.PutUint64(payload, run)
	runtime.LockOSThread()
	begun, sent := time.Now(), 0
	for time.Since(begun) < j.time {
		for range datagramBurst {
			if _, err := s.Write(payload); err != nil {
				return "", err
			}
			sent++
		}
		time.Sleep(time.Until(begun.Add(time.Duration(float64(sent) * datagramSize * 8 / j.rate * 1e9))))
	}
	if rate := float64(sent) * datagramSize * 8 / time.Since(begun).Seconds(); rate < 0.98*j.rate {
		return "", fmt.Errorf("only %.0f bits per second could be sent", rate)
	}
	time.Sleep(200 * time.Millisecond) // for those on their way
	c, err := j.ask(askCount)
	if err != nil {
		return "", err
	}
	defer c.Close()
	if err := c.writeNumber(run); err != nil {
		return "", err
	}
	got, err := c.readNumber()
	if err != nil {
		return "", fmt.Errorf("none of the datagrams came: %w", err)
	}
	return fmt.Sprintf("%.4f", 100*(1-float64(got)/float64(sent))), nil
}

// seen tells whether the server sees the client's own address.
func seen(j job) (string, error) {
	c, err := j.ask(askSeen)
	if err != nil {
		return "", err
	}
	defer c.Close()
	own, err := unix.Getsockname(int(c))
	if err != nil {
		return "", err
	}
	b, err := io.ReadAll(c)
	return fmt.Sprintf("%s seen as %s", address(own), b), err
}
