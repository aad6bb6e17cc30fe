package main

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"
)

// until repeats send for the seconds in arg, and says how often it did.
func until(arg string, send func(i int)) error {
	d, err := time.ParseDuration(arg)
	if err != nil {
		return err
	}
	sent := 0
	for end := time.Now().Add(d); time.Now().Before(end); sent++ {
		send(sent)
	}
	fmt.Println("sent", sent)
	return nil
}

// rawGarbage sends frames of noise with plausible beginnings to the gateway's
// hardware address (MAC DURATION) by way of eth0.
func rawGarbage(args []string) error {
	mac, err := net.ParseMAC(args[0])
	if err != nil {
		return err
	}
	dev, err := net.InterfaceByName("eth0")
	if err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW, 0)
	if err != nil {
		return err
	}
	to := &unix.SockaddrLinklayer{Ifindex: dev.Index, Halen: 6}
	copy(to.Addr[:], mac)
	return until(args[1], func(i int) {
		frame := make([]byte, 14+rand.IntN(1400))
		for j := range frame {
			frame[j] = byte(rand.Uint32())
		}
		copy(frame, mac)
		copy(frame[6:], dev.HardwareAddr)
		shape(frame[12:], i)
		_ = unix.Sendto(fd, frame, 0, to)
	})
}

// shape makes the noise after a frame's addresses look like this or that.
func shape(b []byte, i int) {
	if len(b) < 48 {
		return
	}
	proto := []byte{unix.IPPROTO_TCP, unix.IPPROTO_UDP, unix.IPPROTO_ICMP, unix.IPPROTO_ICMPV6, byte(rand.Uint32())}[i%5]
	ip := b[2:]
	switch i % 4 {
	case 0: // IPv4 with options, fragments, a length of its own
		binary.BigEndian.PutUint16(b, unix.ETH_P_IP)
		ip[0] = 0x40 | byte(5+rand.IntN(11))
		if i%8 == 0 {
			binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)))
		}
		ip[9] = proto
		copy(ip[16:], []byte{198, 51, 100, 1})
		checksum(ip)
	case 1: // IPv6 with extension headers
		binary.BigEndian.PutUint16(b, unix.ETH_P_IPV6)
		ip[0] = 0x60
		binary.BigEndian.PutUint16(ip[4:], uint16(len(ip)-40))
		ip[6] = []byte{0, 43, 44, 60, proto}[rand.IntN(5)]
		ip[7] = 64
		copy(ip[24:], netip.MustParseAddr("2001:db8::1").AsSlice())
	case 2:
		binary.BigEndian.PutUint16(b, unix.ETH_P_ARP)
	}
}

// checksum fills in that of an IPv4 header.
func checksum(ip []byte) {
	n := int(ip[0]&15) * 4
	if n > len(ip) {
		return
	}
	ip[10], ip[11] = 0, 0
	var sum uint32
	for i := 0; i < n; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(ip[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	binary.BigEndian.PutUint16(ip[10:], ^uint16(sum))
}

// synFlood sends SYNs and nothing else (ADDRESS DURATION) from ports of all
// kinds; with port 0 to every port.
func synFlood(args []string) error {
	to, err := netip.ParseAddrPort(args[0])
	if err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_TCP)
	if err != nil {
		return err
	}
	from, err := localAddr(args[0])
	if err != nil {
		return err
	}
	return until(args[1], func(i int) {
		port := to.Port()
		if port == 0 {
			port = uint16(i)
		}
		seg := make([]byte, 20)
		binary.BigEndian.PutUint16(seg, uint16(1024+i%60000))
		binary.BigEndian.PutUint16(seg[2:], port)
		binary.BigEndian.PutUint32(seg[4:], rand.Uint32())
		seg[12], seg[13] = 5<<4, 2
		binary.BigEndian.PutUint16(seg[14:], 65535)
		sumTCP(seg, from, to.Addr())
		_ = unix.Sendto(fd, seg, 0, &unix.SockaddrInet4{Addr: to.Addr().As4()})
	})
}

func localAddr(to string) (netip.Addr, error) {
	c, err := net.Dial("udp", to)
	if err != nil {
		return netip.Addr{}, err
	}
	defer c.Close()
	return c.LocalAddr().(*net.UDPAddr).AddrPort().Addr(), nil
}

func sumTCP(seg []byte, from, to netip.Addr) {
	b := append(from.AsSlice(), to.AsSlice()...)
	b = append(b, 0, unix.IPPROTO_TCP, 0, byte(len(seg)))
	b = append(b, seg...)
	var sum uint32
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	binary.BigEndian.PutUint16(seg[16:], ^uint16(sum))
}

// halfOpen begins connections (ADDRESS COUNT DURATION) without waiting for
// any, and keeps them.
func halfOpen(args []string) error {
	to, err := netip.ParseAddrPort(args[0])
	if err != nil {
		return err
	}
	var count int
	if _, err := fmt.Sscan(args[1], &count); err != nil {
		return err
	}
	begun := 0
	for range count {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			break
		}
		if err := unix.Connect(fd, &unix.SockaddrInet4{Addr: to.Addr().As4(), Port: int(to.Port())}); err == nil || err == unix.EINPROGRESS {
			begun++
		}
	}
	fmt.Println("begun", begun)
	d, err := time.ParseDuration(args[2])
	time.Sleep(d)
	return err
}

// everyPort sends a datagram to each UDP port of an address (ADDRESS), twice.
func everyPort(args []string) error {
	to, err := netip.ParseAddr(args[0])
	if err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	for range 2 {
		for port := 1; port < 65536; port++ {
			_ = unix.Sendto(fd, []byte("knock"), 0, &unix.SockaddrInet4{Addr: to.As4(), Port: port})
		}
	}
	fmt.Println("sent")
	return nil
}

// dnsFlood asks the resolver for names that do not exist (DURATION), and sends
// it noise.
func dnsFlood(args []string) error {
	c, err := net.Dial("udp", "127.0.0.11:53")
	if err != nil {
		return err
	}
	return until(args[0], func(i int) {
		name := dnsmessage.MustNewName(fmt.Sprintf("n%d.example.", rand.Uint32()))
		b := dnsmessage.NewBuilder(nil, dnsmessage.Header{ID: uint16(i), RecursionDesired: true})
		_ = b.StartQuestions()
		_ = b.Question(dnsmessage.Question{Name: name, Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET})
		msg, _ := b.Finish()
		if i%3 == 0 {
			for j := range msg {
				if rand.IntN(4) == 0 {
					msg[j] = byte(rand.Uint32())
				}
			}
		}
		_, _ = c.Write(msg)
	})
}
