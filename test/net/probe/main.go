// Probe is what the network tests run inside containers: services, well-behaved
// clients and hostile ones.
package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"time"
)

// modes are what the first argument names; the others are the mode's own.
var modes = map[string]func(args []string) error{
	"echo":  echo,
	"hold":  hold,
	"chat":  chat,
	"names": names,
	"many":  many,
	"raw":   rawGarbage,
	"syn":   synFlood,
	"half":  halfOpen,
	"ports": everyPort,
	"dns":   dnsFlood,
	"count": count,
	"cut":   cut,
	"zone":  zone,
	"ask":   ask,
}

func main() {
	if len(os.Args) < 2 || modes[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "usage: probe MODE ARGS…")
		os.Exit(2)
	}
	if err := modes[os.Args[1]](os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, "probe:", err)
		os.Exit(1)
	}
}

// echo serves TCP and UDP on a port and returns what it gets.
func echo(args []string) error {
	l, err := net.Listen("tcp", ":"+args[0])
	if err != nil {
		return err
	}
	u, err := net.ListenPacket("udp", ":"+args[0])
	if err != nil {
		return err
	}
	go func() {
		buf := make([]byte, 65535)
		for {
			n, from, err := u.ReadFrom(buf)
			if err == nil {
				_, _ = u.WriteTo(buf[:n], from)
			}
		}
	}()
	fmt.Println("ready")
	for {
		c, err := l.Accept()
		if err != nil {
			time.Sleep(10 * time.Millisecond)
			continue
		}
		go func() {
			defer c.Close()
			_, _ = io.Copy(c, c)
		}()
	}
}

// chat sends a numbered line over each of the given connections (NETWORK
// ADDRESS pairs) ten times a second, for ever, and ends when an answer is
// wrong or does not come.
func chat(args []string) error {
	var conns []net.Conn
	for i := 0; i+1 < len(args); i += 2 {
		c, err := net.Dial(args[i], args[i+1])
		if err != nil {
			return err
		}
		conns = append(conns, c)
	}
	for i := 0; ; i++ {
		for _, c := range conns {
			if err := exchange(c, fmt.Sprintf("line %d\n", i)); err != nil {
				return fmt.Errorf("%s %s: %w", c.RemoteAddr().Network(), c.RemoteAddr(), err)
			}
		}
		if i == 0 {
			fmt.Println("ready")
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func exchange(c net.Conn, line string) error {
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.WriteString(c, line); err != nil {
		return err
	}
	buf := make([]byte, len(line))
	if _, err := io.ReadFull(c, buf); err != nil {
		return err
	}
	if string(buf) != line {
		return fmt.Errorf("sent %q, got %q", line, buf)
	}
	return nil
}

// names looks a name up ten times a second, for ever, until that fails.
func names(args []string) error {
	for i := 0; ; i++ {
		if _, err := net.LookupHost(args[0]); err != nil {
			return err
		}
		if i == 0 {
			fmt.Println("ready")
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// hold opens as many connections (NETWORK ADDRESS COUNT) as it can, says how
// many, and keeps them for ever.
func hold(args []string) error {
	n, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	var conns []net.Conn
	for range n {
		c, err := net.DialTimeout(args[0], args[1], 2*time.Second)
		if err != nil {
			break
		}
		if args[0] == "udp" || exchange(c, "x") == nil {
			conns = append(conns, c)
		}
	}
	fmt.Println("holding", len(conns))
	select {}
}

// many makes connections one after the other (ADDRESS COUNT), each with a
// line that must come back.
func many(args []string) error {
	n, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	for i := range n {
		c, err := net.DialTimeout("tcp", args[0], 10*time.Second)
		if err != nil {
			return fmt.Errorf("connection %d: %w", i, err)
		}
		err = exchange(c, "line\n")
		c.Close()
		if err != nil {
			return fmt.Errorf("connection %d: %w", i, err)
		}
	}
	return nil
}
