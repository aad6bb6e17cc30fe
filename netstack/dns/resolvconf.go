package dns

import (
	"bytes"
	"fmt"
	"net/netip"
	"strings"
)

// ResolvConf is the content of a resolv.conf(5).
type ResolvConf struct {
	Servers []netip.Addr
	Search  []string
	Options []string
}

// ParseResolvConf reads what it understands and leaves the rest out, as
// resolvers do.
func ParseResolvConf(b []byte) ResolvConf {
	var r ResolvConf
	for line := range bytes.Lines(b) {
		fields := strings.Fields(string(line))
		if len(fields) < 2 {
			continue
		}
		switch fields[0] {
		case "nameserver":
			if a, err := netip.ParseAddr(fields[1]); err == nil {
				r.Servers = append(r.Servers, a)
			}
		case "search", "domain": // the last one counts
			r.Search = fields[1:]
		case "options":
			r.Options = append(r.Options, fields[1:]...)
		}
	}
	return r
}

// Format writes the file.
func (r ResolvConf) Format() []byte {
	var b bytes.Buffer
	b.WriteString("# Written by kelp.\n\n")
	for _, s := range r.Servers {
		fmt.Fprintf(&b, "nameserver %s\n", s)
	}
	if len(r.Search) > 0 {
		fmt.Fprintf(&b, "search %s\n", strings.Join(r.Search, " "))
	}
	if len(r.Options) > 0 {
		fmt.Fprintf(&b, "options %s\n", strings.Join(r.Options, " "))
	}
	return b.Bytes()
}
