package link

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Packets with localMark are delivered to a socket of the bridge's namespace
// whatever their destination is.
const (
	localMark  = 1
	localTable = 100
)

const (
	registerA = 1 // the 16-byte registers of nftables
	registerB = 2
)

// keepSources lets sockets of the namespace with IP_TRANSPARENT speak with
// containers under addresses that are not the namespace's own: the containers'
// packets to such a socket are found by the socket and kept from being routed.
func (b *Bridge) keepSources() error {
	if err := b.routeMarked(); err != nil {
		return err
	}
	return b.nft(func(c *nftables.Conn, pre *nftables.Chain) {
		// A new connection must not meet a socket that lingers after an old
		// one with the same ports: the host is asked again.
		syn := append(interfaceIs(b.cfg.Name), isTCP()...)
		syn = append(append(syn, tcpSynOnly()...), &expr.Verdict{Kind: expr.VerdictAccept})
		c.AddRule(&nftables.Rule{Table: pre.Table, Chain: pre, Exprs: syn})
		rule := interfaceIs(b.cfg.Name)
		rule = append(
			rule,
			&expr.Socket{Key: expr.SocketKeyTransparent, Register: registerA},
			&expr.Cmp{Op: expr.CmpOpEq, Register: registerA, Data: []byte{1}},
		)
		c.AddRule(&nftables.Rule{Table: pre.Table, Chain: pre, Exprs: append(rule, markLocal()...)})
	})
}

// Intercept makes TCP handshakes that come in from the uplink end at the
// sockets listening on l4 and l6 (either may be missing), as if these had the
// packets' destination. Nothing else from the uplink is touched.
func (b *Bridge) Intercept(l4, l6 netip.AddrPort) error {
	return b.nft(func(c *nftables.Conn, pre *nftables.Chain) {
		for _, to := range []netip.AddrPort{l4, l6} {
			if !to.IsValid() {
				continue
			}
			family := byte(unix.NFPROTO_IPV4)
			if to.Addr().Is6() {
				family = unix.NFPROTO_IPV6
			}
			rule := interfaceIs(uplinkDevice)
			rule = append(
				rule,
				&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: registerA},
				&expr.Cmp{Op: expr.CmpOpEq, Register: registerA, Data: []byte{family}},
			)
			rule = append(rule, isTCP()...)
			rule = append(rule, tcpSynOnly()...)
			rule = append(
				rule,
				&expr.Immediate{Register: registerA, Data: to.Addr().AsSlice()},
				&expr.Immediate{Register: registerB, Data: binary.BigEndian.AppendUint16(nil, to.Port())},
				&expr.TProxy{Family: family, TableFamily: byte(nftables.TableFamilyINet), RegAddr: registerA, RegPort: registerB},
			)
			c.AddRule(&nftables.Rule{Table: pre.Table, Chain: pre, Exprs: append(rule, markLocal()...)})
		}
	})
}

// nft adds rules to the namespace's one chain.
func (b *Bridge) nft(add func(*nftables.Conn, *nftables.Chain)) error {
	return b.Do(func() error {
		c, err := nftables.New()
		if err != nil {
			return fmt.Errorf("cannot open nftables: %w", err)
		}
		table := c.AddTable(&nftables.Table{Name: "kelp", Family: nftables.TableFamilyINet})
		pre := c.AddChain(&nftables.Chain{
			Name:     "pre",
			Table:    table,
			Type:     nftables.ChainTypeFilter,
			Hooknum:  nftables.ChainHookPrerouting,
			Priority: nftables.ChainPriorityMangle,
		})
		add(c, pre)
		if err := c.Flush(); err != nil {
			return fmt.Errorf("cannot add packet rules: %w", err)
		}
		return nil
	})
}

// routeMarked sends packets with localMark to the namespace itself.
func (b *Bridge) routeMarked() error {
	h, err := b.Netlink()
	if err != nil {
		return err
	}
	lo, err := h.LinkByName("lo")
	if err != nil {
		return err
	}
	families := []netip.Addr{netip.IPv4Unspecified()}
	if b.hasIPv6() {
		families = append(families, netip.IPv6Unspecified())
	}
	for _, any := range families {
		family := netlink.FAMILY_V4
		if any.Is6() {
			family = netlink.FAMILY_V6
		}
		rule := netlink.NewRule()
		rule.Family, rule.Table, rule.Mark = family, localTable, localMark
		if err := h.RuleAdd(rule); err != nil {
			return fmt.Errorf("cannot add a routing rule: %w", err)
		}
		err := h.RouteAdd(&netlink.Route{
			LinkIndex: lo.Attrs().Index,
			Family:    family,
			Dst:       &net.IPNet{IP: any.AsSlice(), Mask: net.CIDRMask(0, any.BitLen())},
			Table:     localTable,
			Type:      unix.RTN_LOCAL,
			Scope:     netlink.SCOPE_HOST,
		})
		if err != nil {
			return fmt.Errorf("cannot add a local route: %w", err)
		}
	}
	return nil
}

func interfaceIs(name string) []expr.Any {
	padded := make([]byte, unix.IFNAMSIZ)
	copy(padded, name)
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: registerA},
		&expr.Cmp{Op: expr.CmpOpEq, Register: registerA, Data: padded},
	}
}

func isTCP() []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: registerA},
		&expr.Cmp{Op: expr.CmpOpEq, Register: registerA, Data: []byte{unix.IPPROTO_TCP}},
	}
}

// tcpSynOnly matches the first packet of a handshake.
func tcpSynOnly() []expr.Any {
	const flagsOffset, syn, ack = 13, 0x02, 0x10
	return []expr.Any{
		&expr.Payload{DestRegister: registerA, Base: expr.PayloadBaseTransportHeader, Offset: flagsOffset, Len: 1},
		&expr.Bitwise{SourceRegister: registerA, DestRegister: registerA, Len: 1, Mask: []byte{syn | ack}, Xor: []byte{0}},
		&expr.Cmp{Op: expr.CmpOpEq, Register: registerA, Data: []byte{syn}},
	}
}

func markLocal() []expr.Any {
	return []expr.Any{
		&expr.Immediate{Register: registerA, Data: binaryutil.NativeEndian.PutUint32(localMark)},
		&expr.Meta{Key: expr.MetaKeyMARK, SourceRegister: true, Register: registerA},
		&expr.Verdict{Kind: expr.VerdictAccept},
	}
}
