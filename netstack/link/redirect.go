package link

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Redirect makes what processes of the namespace send to an IPv4 address and
// port arrive at another port of the address, which is the namespace's own: udp
// for UDP, tcp for TCP. The port itself stays free for others.
//
// It writes ports into packets instead of translating connections, because then
// the kernel need not track all connections of the namespace. The namespace's
// own rules, tracking included, see the other port both ways.
func (n *Namespace) Redirect(from netip.AddrPort, udp, tcp uint16) error {
	return n.Do(func() error {
		c, err := nftables.New()
		if err != nil {
			return fmt.Errorf("cannot open nftables: %w", err)
		}
		table := c.AddTable(&nftables.Table{Name: "kelp", Family: nftables.TableFamilyIPv4})
		chain := func(name string, hook *nftables.ChainHook) *nftables.Chain {
			return c.AddChain(&nftables.Chain{
				Name: name, Table: table, Type: nftables.ChainTypeFilter,
				Hooknum: hook, Priority: nftables.ChainPriorityRaw,
			})
		}
		out, in := chain("out", nftables.ChainHookOutput), chain("in", nftables.ChainHookInput)
		for proto, port := range map[byte]uint16{unix.IPPROTO_UDP: udp, unix.IPPROTO_TCP: tcp} {
			const source, destination = 0, 1
			c.AddRule(&nftables.Rule{Table: table, Chain: out, Exprs: rewritePort(destination, proto, from, port)})
			c.AddRule(&nftables.Rule{Table: table, Chain: in, Exprs: rewritePort(source, proto, netip.AddrPortFrom(from.Addr(), port), from.Port())})
		}
		if err := c.Flush(); err != nil {
			return fmt.Errorf("cannot redirect %s: %w", from, err)
		}
		return nil
	})
}

// rewritePort changes the port at an end of a packet: 0 is the source, 1 the
// destination.
func rewritePort(end uint32, proto byte, from netip.AddrPort, port uint16) []expr.Any {
	checksum := uint32(6)
	if proto == unix.IPPROTO_TCP {
		checksum = 16
	}
	rule := bytesAre(expr.PayloadBaseNetworkHeader, 12+4*end, from.Addr().AsSlice())
	rule = append(
		rule,
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: registerA},
		&expr.Cmp{Op: expr.CmpOpEq, Register: registerA, Data: []byte{proto}},
	)
	rule = append(rule, bytesAre(expr.PayloadBaseTransportHeader, 2*end, binary.BigEndian.AppendUint16(nil, from.Port()))...)
	return append(
		rule,
		&expr.Immediate{Register: registerA, Data: binary.BigEndian.AppendUint16(nil, port)},
		&expr.Payload{
			OperationType: expr.PayloadWrite, SourceRegister: registerA, Base: expr.PayloadBaseTransportHeader, Offset: 2 * end, Len: 2,
			CsumType: expr.CsumTypeInet, CsumOffset: checksum,
		},
	)
}
