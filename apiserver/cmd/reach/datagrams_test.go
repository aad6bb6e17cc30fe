package reach

import (
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/things-go/go-socks5/statute"
)

// associate asks a proxy without a password for an association.
func associate(t *testing.T, at string) (control net.Conn, relay *net.UDPAddr) {
	t.Helper()
	control, err := net.Dial("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { control.Close() })
	control.SetDeadline(time.Now().Add(20 * time.Second))
	control.Write([]byte{5, 1, 0, 5, 3, 0, 1, 0, 0, 0, 0, 0, 0})
	answer := make([]byte, 12)
	if _, err := io.ReadFull(control, answer); err != nil || answer[3] != 0 {
		t.Fatalf("answered %v, %v", answer, err)
	}
	return control, &net.UDPAddr{IP: answer[6:10], Port: int(answer[10])<<8 | int(answer[11])}
}

func udpSocket(t *testing.T) *net.UDPConn {
	t.Helper()
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func TestProxyCarriesDatagrams(t *testing.T) {
	service := udpSocket(t)
	go func() {
		buf := make([]byte, 100)
		for {
			n, from, err := service.ReadFromUDP(buf)
			if err != nil {
				return
			}
			service.WriteToUDP(append([]byte("re: "), buf[:n]...), from)
		}
	}()
	control, relay := associate(t, serveProxy(t, service.LocalAddr().String(), Secret{}))
	client, second := udpSocket(t), udpSocket(t)
	send := func(from *net.UDPConn, frag byte, to, word string) {
		t.Helper()
		d, err := statute.NewDatagram(to, []byte(word))
		if err != nil {
			t.Fatal(err)
		}
		d.Frag = frag
		if _, err := from.WriteToUDP(d.Bytes(), relay); err != nil {
			t.Fatal(err)
		}
	}
	hear := func(c *net.UDPConn) (string, error) {
		c.SetReadDeadline(time.Now().Add(20 * time.Second))
		buf := make([]byte, 100)
		n, err := c.Read(buf)
		if err != nil {
			return "", err
		}
		d, err := statute.ParseDatagram(buf[:n])
		return string(d.Data), err
	}
	for i, to := range []string{"web:80", "172.18.0.2:80", "web:80"} {
		from := []*net.UDPConn{client, client, second}[i]
		send(from, 0, to, to)
		if got, err := hear(from); got != "re: "+to || err != nil {
			t.Fatalf("%s: %q, %v", to, got, err)
		}
	}
	send(client, 1, "web:80", "a fragment")
	client.WriteToUDP([]byte("short"), relay)
	send(client, 0, "shop:80", "to whom?") // names two
	send(client, 0, "web:80", "last")
	if got, err := hear(client); got != "re: last" || err != nil {
		t.Errorf("after what is dropped came %q, %v", got, err)
	}
	control.Close()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		taken, err := net.ListenUDP("udp4", relay)
		if err == nil { // the relay is gone
			taken.Close()
			return
		}
		if time.Now().After(end) {
			t.Fatal("the relay outlives the client's connection")
		}
	}
}

func TestWhoseSocketSends(t *testing.T) {
	c := udpSocket(t)
	if at := c.LocalAddr().(*net.UDPAddr).AddrPort(); !ownUDP(at) {
		t.Errorf("%s is not ours", at)
	}
	table := filepath.Join(t.TempDir(), "udp")
	text := "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n" +
		"  1: 0100007F:0035 00000000:0000 07 00000000:00000000 00:00000000 00000000  1000        0 1 2 0 0\n" +
		"  2: 00000000:0036 00000000:0000 07 00000000:00000000 00:00000000 00000000  1000        0 1 2 0 0\n" +
		"  3: 0100007F:0037 00000000:0000 07 00000000:00000000 00:00000000 00000000  1000        0 1 2 0 0\n" +
		"  4: 00000000:0037 00000000:0000 07 00000000:00000000 00:00000000 00000000  1001        0 1 2 0 0\n" +
		"  5: 0200007F:0035 00000000:0000 07 00000000:00000000 00:00000000 00000000  1001        0 1 2 0 0\n" +
		"  6: 0000000000000000FFFF00000100007F:0038 00000000:0000 07 00000000:00000000 00:00000000 00000000  1000        0 1 2 0 0\n"
	if err := os.WriteFile(table, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	for port, want := range map[uint16]bool{53: true, 54: true, 55: false, 56: true, 57: false} {
		at := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port)
		if got := ownedBy("1000", at, table, filepath.Join(t.TempDir(), "none")); got != want {
			t.Errorf("port %d: %v, want %v", port, got, want)
		}
		if ownedBy("1002", at, table) {
			t.Errorf("port %d is somebody else's", port)
		}
	}
}
