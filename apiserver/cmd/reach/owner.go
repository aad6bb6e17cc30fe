package reach

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"
)

// ownUDP says whether a UDP address of this host is that of a socket of our
// own user, and of nobody else's.
func ownUDP(a netip.AddrPort) bool {
	return ownedBy(strconv.Itoa(os.Getuid()), a, "/proc/net/udp", "/proc/net/udp6")
}

// ownedBy looks into tables as of /proc/net/udp, with lines like
//
//	sl: local_address rem_address st tx:rx tr:tm retrnsmt uid …
func ownedBy(uid string, a netip.AddrPort, tables ...string) bool {
	addr := a.Addr().As4()
	port := fmt.Sprintf(":%04X", a.Port())
	host := fmt.Sprintf("%08X", binary.NativeEndian.Uint32(addr[:]))
	mapped := fmt.Sprintf("%016X%08X", 0, binary.NativeEndian.Uint32([]byte{0, 0, 0xff, 0xff})) + host
	found := false
	for _, table := range tables {
		b, err := os.ReadFile(table)
		if err != nil {
			continue // a host without IPv6
		}
		for line := range bytes.Lines(b) {
			f := strings.Fields(string(line))
			if len(f) < 8 || !strings.HasSuffix(f[1], port) {
				continue
			}
			switch at := strings.TrimSuffix(f[1], port); {
			case at != host && at != mapped && strings.Trim(at, "0") != "": // another address
			case f[7] != uid:
				return false
			default:
				found = true
			}
		}
	}
	return found
}
