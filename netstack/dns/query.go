package dns

import (
	"errors"
	"math/rand/v2"
	"net/netip"
	"strconv"
	"strings"

	"golang.org/x/net/dns/dnsmessage"
)

// query is what a server needs to know of a query.
type query struct {
	id       uint16
	opcode   dnsmessage.OpCode
	desired  bool // recursion
	question dnsmessage.Question
	name     string // of the question: lower case, no final dot
	edns     bool
	limit    int // bytes of the answer that the client takes
}

const (
	// plainUDP is what a client takes by UDP that says nothing of it.
	plainUDP = 512
	// ourUDP is what we take, as EDNS says: no packet of it is cut on the way.
	ourUDP = 1232
)

var errNoQuery = errors.New("not a query with one question")

func parseQuery(b []byte, tcp bool) (query, error) {
	var p dnsmessage.Parser
	h, err := p.Start(b)
	if err != nil {
		return query{}, err
	}
	if h.Response {
		return query{}, errNoQuery
	}
	question, err := p.Question()
	if err != nil {
		return query{}, err
	}
	if _, err := p.Question(); !errors.Is(err, dnsmessage.ErrSectionDone) {
		return query{}, errNoQuery
	}
	q := query{
		id:       h.ID,
		opcode:   h.OpCode,
		desired:  h.RecursionDesired,
		question: question,
		name:     strings.ToLower(strings.TrimSuffix(question.Name.String(), ".")),
		limit:    plainUDP,
	}
	if size, ok := edns(&p); ok {
		q.edns, q.limit = true, max(size, plainUDP)
	}
	if tcp {
		q.limit = maxMessage
	}
	return q, nil
}

// edns looks for what a query says about its sender's EDNS. p is after the
// questions.
func edns(p *dnsmessage.Parser) (size int, ok bool) {
	if p.SkipAllAnswers() != nil || p.SkipAllAuthorities() != nil {
		return 0, false
	}
	for {
		h, err := p.AdditionalHeader()
		if err != nil {
			return 0, false
		}
		if h.Type == dnsmessage.TypeOPT {
			return int(h.Class), true
		}
		if p.SkipAdditional() != nil {
			return 0, false
		}
	}
}

// fromZone answers what the zone knows. ok is false for names of others.
func (q query) fromZone(z Zone) (answer []byte, ok bool) {
	if q.question.Class != dnsmessage.ClassINET {
		return nil, false
	}
	if q.question.Type == dnsmessage.TypePTR {
		addr, ok := reverseAddr(q.name)
		if !ok {
			return nil, false
		}
		name, ok := z.Reverse(addr)
		if !ok {
			return nil, false
		}
		return q.reply(dnsmessage.RCodeSuccess, q.pointer(name)), true
	}
	addrs, ok := z.Lookup(q.name)
	if !ok {
		return nil, false
	}
	return q.reply(dnsmessage.RCodeSuccess, q.addresses(addrs)), true
}

// addresses are the records of the question's type, in random order so that
// replicas share the load.
func (q query) addresses(addrs []netip.Addr) []dnsmessage.Resource {
	var records []dnsmessage.Resource
	for _, i := range rand.Perm(len(addrs)) {
		a := addrs[i]
		switch {
		case a.Is4() && q.question.Type == dnsmessage.TypeA:
			records = append(records, q.record(&dnsmessage.AResource{A: a.As4()}))
		case a.Is6() && q.question.Type == dnsmessage.TypeAAAA:
			records = append(records, q.record(&dnsmessage.AAAAResource{AAAA: a.As16()}))
		}
	}
	return records
}

func (q query) pointer(name string) []dnsmessage.Resource {
	n, err := dnsmessage.NewName(name + ".")
	if err != nil {
		return nil // longer than DNS can say
	}
	return []dnsmessage.Resource{q.record(&dnsmessage.PTRResource{PTR: n})}
}

func (q query) record(body dnsmessage.ResourceBody) dnsmessage.Resource {
	return dnsmessage.Resource{
		Header: dnsmessage.ResourceHeader{Name: q.question.Name, Class: dnsmessage.ClassINET, TTL: ttl},
		Body:   body,
	}
}

// reply builds an answer. When the client does not take as much by UDP, it gets
// what fits and is told to ask by TCP.
func (q query) reply(code dnsmessage.RCode, records []dnsmessage.Resource) []byte {
	m := dnsmessage.Message{
		Header: dnsmessage.Header{
			ID: q.id, OpCode: q.opcode, Response: true, Authoritative: records != nil,
			RecursionDesired: q.desired, RecursionAvailable: true, RCode: code,
		},
		Questions: []dnsmessage.Question{q.question},
		Answers:   records,
	}
	if q.edns {
		var h dnsmessage.ResourceHeader
		if err := h.SetEDNS0(ourUDP, code, false); err != nil {
			return nil
		}
		m.Additionals = []dnsmessage.Resource{{Header: h, Body: &dnsmessage.OPTResource{}}}
	}
	for {
		b, err := m.Pack()
		if err != nil {
			return nil
		}
		if len(b) <= q.limit || len(m.Answers) == 0 {
			return b
		}
		m.Truncated = true
		m.Answers = m.Answers[:min(len(m.Answers)-1, len(m.Answers)*q.limit/len(b))]
	}
}

// reverseAddr reads the address from a name below in-addr.arpa or ip6.arpa.
func reverseAddr(name string) (netip.Addr, bool) {
	if rest, ok := strings.CutSuffix(name, ".in-addr.arpa"); ok {
		parts := strings.Split(rest, ".")
		if len(parts) != 4 {
			return netip.Addr{}, false
		}
		a, err := netip.ParseAddr(parts[3] + "." + parts[2] + "." + parts[1] + "." + parts[0])
		return a, err == nil && a.Is4()
	}
	rest, ok := strings.CutSuffix(name, ".ip6.arpa")
	digits := strings.Split(rest, ".")
	if !ok || len(digits) != 32 {
		return netip.Addr{}, false
	}
	var b [16]byte
	for i, d := range digits {
		v, err := strconv.ParseUint(d, 16, 4)
		if err != nil || len(d) != 1 {
			return netip.Addr{}, false
		}
		at := 31 - i
		b[at/2] |= byte(v) << (4 * (1 - at%2))
	}
	return netip.AddrFrom16(b), true
}
