package link

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// guard drops what comes from a port of a bridge under an address that is not
// the port's own, before the bridge learns from it. It lives in the bridge's
// namespace, where no container's powers reach.
type guard struct {
	ns    *Namespace
	table *nftables.Table
	own4  *nftables.Set // of port, MAC and IPv4 address
	own6  *nftables.Set

	mu    sync.Mutex
	conn  *nftables.Conn          // kept, for closing one takes long; nil after an error
	ports map[string]ownAddresses // by name
}

// ownAddresses are elements of the two sets.
type ownAddresses struct{ v4, v6 []nftables.SetElement }

// newGuard makes a guard that lets nothing pass yet.
func newGuard(ns *Namespace) (*guard, error) {
	table := &nftables.Table{Name: "kelp", Family: nftables.TableFamilyBridge}
	set := func(name string, address nftables.SetDatatype) *nftables.Set {
		return &nftables.Set{
			Table: table, Name: name, Concatenation: true,
			KeyType: nftables.MustConcatSetType(nftables.TypeIFIndex, nftables.TypeEtherAddr, address),
		}
	}
	g := &guard{
		ns: ns, table: table, ports: map[string]ownAddresses{},
		own4: set("own4", nftables.TypeIPAddr), own6: set("own6", nftables.TypeIP6Addr),
	}
	err := g.transact(func(c *nftables.Conn) error {
		c.AddTable(table)
		for _, s := range []*nftables.Set{g.own4, g.own6} {
			if err := c.AddSet(s, nil); err != nil {
				return err
			}
		}
		drop := nftables.ChainPolicyDrop
		chain := c.AddChain(&nftables.Chain{
			Name: "in", Table: table, Type: nftables.ChainTypeFilter,
			Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityFilter, Policy: &drop,
		})
		for _, rule := range g.rules() {
			c.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: rule})
		}
		return nil
	})
	if err != nil {
		g.close()
	}
	return g, err
}

// close releases what the guard holds; its rules end with the namespace.
func (g *guard) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.drop()
}

func (g *guard) drop() {
	if g.conn != nil {
		_ = g.conn.CloseLasting()
		g.conn = nil
	}
}

// transact makes changes in the bridge's namespace, all or none.
//
// Preconditions: g.mu is held, or g is not shared yet.
func (g *guard) transact(change func(*nftables.Conn) error) (err error) {
	if g.conn == nil {
		err := g.ns.Do(func() (err error) {
			g.conn, err = nftables.New(nftables.AsLasting())
			return err
		})
		if err != nil {
			return fmt.Errorf("cannot open nftables: %w", err)
		}
	}
	defer func() {
		if err != nil {
			g.drop() // answers may still be under way
		}
	}()
	if err := change(g.conn); err != nil {
		return err
	}
	if err := g.conn.Flush(); err != nil {
		return fmt.Errorf("cannot change the rules against foreign addresses: %w", err)
	}
	return nil
}

// Offsets and numbers of the headers that the rules look at.
const (
	etherSource = 6 // in the link header
	ip4Source   = 12
	ip6Source   = 8
	arpMAC      = 8
	arpIP       = 14
	ndTarget    = 8 // in the transport header

	icmpRouterAdvert    = 134
	icmpNeighbourAdvert = 136
	icmpRedirect        = 137
)

// arpEthernet begins each ARP packet for IPv4 on Ethernet.
var arpEthernet = []byte{0, 1, 8, 0, 6, 4}

// rules accept what a port may send; the chain drops the rest. Frames with a
// VLAN tag are judged by what they carry.
func (g *guard) rules() [][]expr.Any {
	rule := func(parts ...[]expr.Any) (all []expr.Any) {
		for _, p := range parts {
			all = append(all, p...)
		}
		return all
	}
	network, transport := expr.PayloadBaseNetworkHeader, expr.PayloadBaseTransportHeader
	linkSource := &expr.Payload{Base: expr.PayloadBaseLLHeader, Offset: etherSource, Len: 6}
	icmp := rule(protocolIs(unix.ETH_P_IPV6), []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: registerA},
		&expr.Cmp{Op: expr.CmpOpEq, Register: registerA, Data: []byte{unix.IPPROTO_ICMPV6}},
	})
	icmpType := func(t byte) []expr.Any { return bytesAre(transport, 0, []byte{t}) }
	return [][]expr.Any{
		rule(protocolIs(unix.ETH_P_IP), g.isOwn(g.own4, linkSource, network, ip4Source, false), verdict(expr.VerdictAccept)),
		rule(
			protocolIs(unix.ETH_P_ARP), bytesAre(network, 0, arpEthernet),
			g.isOwn(g.own4, linkSource, network, arpIP, false),
			g.isOwn(g.own4, &expr.Payload{Base: network, Offset: arpMAC, Len: 6}, network, arpIP, false),
			verdict(expr.VerdictAccept),
		),
		rule(icmp, icmpType(icmpRouterAdvert), verdict(expr.VerdictDrop)),
		rule(icmp, icmpType(icmpRedirect), verdict(expr.VerdictDrop)),
		rule(icmp, icmpType(icmpNeighbourAdvert), g.isOwn(g.own6, linkSource, transport, ndTarget, true), verdict(expr.VerdictDrop)),
		rule(protocolIs(unix.ETH_P_IPV6), g.isOwn(g.own6, linkSource, network, ip6Source, false), verdict(expr.VerdictAccept)),
	}
}

// isOwn matches when port, MAC and the address at an offset are in a set, or
// when they are not.
func (g *guard) isOwn(set *nftables.Set, mac *expr.Payload, base expr.PayloadBase, offset uint32, not bool) []expr.Any {
	// The 32-bit registers from this one on take the parts of the key.
	const first = unix.NFT_REG32_00
	m := *mac
	m.DestRegister = first + 1
	length := uint32(4)
	if set == g.own6 {
		length = 16
	}
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyIIF, Register: first},
		&m,
		&expr.Payload{DestRegister: first + 3, Base: base, Offset: offset, Len: length},
		&expr.Lookup{SourceRegister: first, SetName: set.Name, SetID: set.ID, Invert: not},
	}
}

func protocolIs(etherType uint16) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyPROTOCOL, Register: registerA},
		&expr.Cmp{Op: expr.CmpOpEq, Register: registerA, Data: binaryutil.BigEndian.PutUint16(etherType)},
	}
}

func bytesAre(base expr.PayloadBase, offset uint32, want []byte) []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: registerA, Base: base, Offset: offset, Len: uint32(len(want))},
		&expr.Cmp{Op: expr.CmpOpEq, Register: registerA, Data: want},
	}
}

func verdict(kind expr.VerdictKind) []expr.Any { return []expr.Any{&expr.Verdict{Kind: kind}} }

// allow lets a port send under its own addresses: those it was given, the
// link-local one that IPv6 makes of its MAC, and none at all, under which
// addresses are probed for.
func (g *guard) allow(index int, p Port) error {
	own := ownAddresses{
		v4: []nftables.SetElement{ownKey(index, p.MAC, netip.IPv4Unspecified())},
		v6: []nftables.SetElement{ownKey(index, p.MAC, netip.IPv6Unspecified()), ownKey(index, p.MAC, linkLocal(p.MAC))},
	}
	for _, a := range p.Addresses {
		switch e := ownKey(index, p.MAC, a.Addr()); {
		case a.Addr().Is4():
			own.v4 = append(own.v4, e)
		case a.Addr() != linkLocal(p.MAC):
			own.v6 = append(own.v6, e)
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	err := g.transact(func(c *nftables.Conn) error {
		return errors.Join(c.SetAddElements(g.own4, own.v4), c.SetAddElements(g.own6, own.v6))
	})
	if err == nil {
		g.ports[p.Name] = own
	}
	return err
}

// forget ends what a port may send; not knowing it is no error.
func (g *guard) forget(port string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	own, known := g.ports[port]
	if !known {
		return nil
	}
	delete(g.ports, port)
	return g.transact(func(c *nftables.Conn) error {
		return errors.Join(c.SetDeleteElements(g.own4, own.v4), c.SetDeleteElements(g.own6, own.v6))
	})
}

func ownKey(index int, mac net.HardwareAddr, a netip.Addr) nftables.SetElement {
	key := append(binaryutil.NativeEndian.PutUint32(uint32(index)), mac...)
	key = append(key, 0, 0) // parts of a key begin at multiples of four bytes
	return nftables.SetElement{Key: append(key, a.AsSlice()...)}
}

// linkLocal is the address that the kernel gives a device with a MAC.
func linkLocal(mac net.HardwareAddr) netip.Addr {
	return netip.AddrFrom16([16]byte{
		0: 0xfe, 1: 0x80,
		8: mac[0] ^ 2, 9: mac[1], 10: mac[2], 11: 0xff, 12: 0xfe, 13: mac[3], 14: mac[4], 15: mac[5],
	})
}
