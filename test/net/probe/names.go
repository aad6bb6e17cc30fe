package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/url"
	"os"
	"time"

	"github.com/things-go/go-socks5/statute"
	"golang.org/x/net/dns/dnsmessage"
)

// zone is a DNS server at a port that answers every question for an address
// with its argument, "PORT ADDRESS".
func zone(args []string) error {
	addr, err := netip.ParseAddr(args[1])
	if err != nil {
		return err
	}
	c, err := net.ListenPacket("udp", ":"+args[0])
	if err != nil {
		return err
	}
	fmt.Println("ready")
	buf := make([]byte, 512)
	for {
		n, from, err := c.ReadFrom(buf)
		if err != nil {
			return err
		}
		var m dnsmessage.Message
		if m.Unpack(buf[:n]) != nil || len(m.Questions) != 1 {
			continue
		}
		q := m.Questions[0]
		m.Response, m.Additionals = true, nil
		if q.Type == dnsmessage.TypeA {
			m.Answers = []dnsmessage.Resource{{
				Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: 1},
				Body:   &dnsmessage.AResource{A: addr.As4()},
			}}
		}
		answer, err := m.Pack()
		if err != nil {
			return err
		}
		if _, err := c.WriteTo(answer, from); err != nil {
			return err
		}
	}
}

// ask looks a name up at a DNS server, "SERVER:PORT NAME", by the SOCKS proxy
// in $ALL_PROXY, and prints the addresses.
func ask(args []string) error {
	proxy, err := url.Parse(os.Getenv("ALL_PROXY"))
	if err != nil {
		return err
	}
	control, relay, err := associate(proxy)
	if err != nil {
		return fmt.Errorf("the proxy: %w", err)
	}
	defer control.Close()
	r := net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		c, err := net.Dial("udp", relay.String())
		return proxied{c.(*net.UDPConn), args[0]}, err
	}}
	found, err := r.LookupHost(context.Background(), args[1])
	fmt.Println(found)
	return err
}

// associate asks a SOCKS proxy to relay datagrams.
func associate(proxy *url.URL) (control net.Conn, relay netip.AddrPort, err error) {
	if control, err = net.Dial("tcp", proxy.Host); err != nil {
		return nil, relay, err
	}
	_ = control.SetDeadline(time.Now().Add(20 * time.Second))
	password, _ := proxy.User.Password()
	user := proxy.User.Username()
	say := append([]byte{5, 1, 2, 1, byte(len(user))}, user...)
	say = append(append(say, byte(len(password))), password...)
	say = append(say, 5, 3, 0, 1, 0, 0, 0, 0, 0, 0)
	if _, err := control.Write(say); err != nil {
		return nil, relay, err
	}
	answer := make([]byte, 2+2+10)
	if _, err := io.ReadFull(control, answer); err != nil || answer[3] != 0 || answer[5] != 0 {
		return nil, relay, fmt.Errorf("answered %v: %w", answer, err)
	}
	return control, netip.AddrPortFrom(netip.AddrFrom4([4]byte(answer[8:12])), uint16(answer[12])<<8|uint16(answer[13])), nil
}

// proxied is a socket that speaks with a target by way of a relay.
type proxied struct {
	*net.UDPConn
	target string
}

func (p proxied) Write(b []byte) (int, error) {
	d, err := statute.NewDatagram(p.target, b)
	if err != nil {
		return 0, err
	}
	_, err = p.UDPConn.Write(d.Bytes())
	return len(b), err
}

func (p proxied) Read(b []byte) (int, error) {
	buf := make([]byte, 2000)
	n, err := p.UDPConn.Read(buf)
	if err != nil {
		return 0, err
	}
	d, err := statute.ParseDatagram(buf[:n])
	return copy(b, d.Data), err
}
