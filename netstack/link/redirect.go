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
// port arrive at another port of the address: udp for UDP, tcp for TCP. The
// port itself stays free for others.
func (n *Namespace) Redirect(from netip.AddrPort, udp, tcp uint16) error {
	return n.Do(func() error {
		c, err := nftables.New()
		if err != nil {
			return fmt.Errorf("cannot open nftables: %w", err)
		}
		table := c.AddTable(&nftables.Table{Name: "kelp", Family: nftables.TableFamilyIPv4})
		out := c.AddChain(&nftables.Chain{
			Name: "out", Table: table, Type: nftables.ChainTypeNAT,
			Hooknum: nftables.ChainHookOutput, Priority: nftables.ChainPriorityNATDest,
		})
		for proto, port := range map[byte]uint16{unix.IPPROTO_UDP: udp, unix.IPPROTO_TCP: tcp} {
			c.AddRule(&nftables.Rule{Table: table, Chain: out, Exprs: redirect(from, proto, port)})
		}
		if err := c.Flush(); err != nil {
			return fmt.Errorf("cannot redirect %s: %w", from, err)
		}
		return nil
	})
}

func redirect(from netip.AddrPort, proto byte, port uint16) []expr.Any {
	const destination, destinationPort = 16, 2 // offsets in the headers
	return []expr.Any{
		&expr.Payload{DestRegister: registerA, Base: expr.PayloadBaseNetworkHeader, Offset: destination, Len: 4},
		&expr.Cmp{Op: expr.CmpOpEq, Register: registerA, Data: from.Addr().AsSlice()},
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: registerA},
		&expr.Cmp{Op: expr.CmpOpEq, Register: registerA, Data: []byte{proto}},
		&expr.Payload{DestRegister: registerA, Base: expr.PayloadBaseTransportHeader, Offset: destinationPort, Len: 2},
		&expr.Cmp{Op: expr.CmpOpEq, Register: registerA, Data: binary.BigEndian.AppendUint16(nil, from.Port())},
		&expr.Immediate{Register: registerA, Data: from.Addr().AsSlice()},
		&expr.Immediate{Register: registerB, Data: binary.BigEndian.AppendUint16(nil, port)},
		&expr.NAT{Type: expr.NATTypeDestNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: registerA, RegProtoMin: registerB, Specified: true},
	}
}
