package netstack

import (
	"context"
	"net"
	"os"
	"strings"
	"testing"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/kelp-engine/kelp/netstack/dns"
	"github.com/kelp-engine/kelp/netstack/link"
)

// ask looks a name up by one of the two protocols.
func ask(t *testing.T, s *Sandbox, proto, name string) ([]string, error) {
	r := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return s.dial(ctx, proto, dns.Address)
	}}
	return r.LookupHost(t.Context(), name)
}

// tracked is how many connections the kernel tracks in a namespace.
func tracked(t *testing.T, ns *link.Namespace) (count string) {
	t.Helper()
	check(t, ns.Do(func() error {
		b, err := os.ReadFile("/proc/sys/net/netfilter/nf_conntrack_count")
		count = strings.TrimSpace(string(b))
		return err
	}))
	return count
}

// TestNothingIsTracked keeps a container with many connections from filling
// the kernel's table of them, and all packets cheaper.
func TestNothingIsTracked(t *testing.T) {
	n := openNetwork(t, "blue", 20, nil)
	web, db := openSandbox(t, SandboxConfig{}), openSandbox(t, SandboxConfig{})
	connect(t, web, n, 2, "web")
	connect(t, db, n, 3, "db")
	serve(t, db, "172.20.0.3:80", "db")
	for _, proto := range []string{"udp", "tcp"} {
		if got, err := ask(t, web, proto, "db"); len(got) != 2 {
			t.Errorf("by %s db is %v, %v", proto, got, err)
		}
	}
	c, err := dialFrom(web, "172.20.0.3:80")
	check(t, err)
	defer c.Close()
	for _, s := range []*Sandbox{web, db} {
		if n := tracked(t, s.ns); n != "0" {
			t.Errorf("%s connections of a container are tracked", n)
		}
	}
}

// TestResolverBehindAFirewall has a container with rules of its own that let
// only answers in.
func TestResolverBehindAFirewall(t *testing.T) {
	n := openNetwork(t, "blue", 20, nil)
	s := openSandbox(t, SandboxConfig{})
	connect(t, s, n, 2, "web")
	check(t, s.ns.Do(func() error {
		c, err := nftables.New()
		if err != nil {
			return err
		}
		drop := nftables.ChainPolicyDrop
		table := c.AddTable(&nftables.Table{Name: "own", Family: nftables.TableFamilyINet})
		in := c.AddChain(&nftables.Chain{
			Name: "in", Table: table, Type: nftables.ChainTypeFilter,
			Hooknum: nftables.ChainHookInput, Priority: nftables.ChainPriorityFilter, Policy: &drop,
		})
		accept := func(states uint32, to ...expr.Any) {
			c.AddRule(&nftables.Rule{Table: table, Chain: in, Exprs: append(
				to,
				&expr.Ct{Key: expr.CtKeySTATE, Register: 1},
				&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: binaryutil.NativeEndian.PutUint32(states), Xor: make([]byte, 4)},
				&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: make([]byte, 4)},
				&expr.Verdict{Kind: expr.VerdictAccept},
			)})
		}
		accept(expr.CtStateBitESTABLISHED)
		accept(
			expr.CtStateBitNEW, // of questions to the resolver
			&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: 16, Len: 4},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: dns.Address.Addr().AsSlice()},
		)
		return c.Flush()
	}))
	for _, proto := range []string{"udp", "tcp"} {
		if got, err := ask(t, s, proto, "web"); len(got) != 2 {
			t.Errorf("by %s web is %v, %v", proto, got, err)
		}
	}
	if tracked(t, s.ns) == "0" {
		t.Error("the container's own rules track nothing")
	}
}
